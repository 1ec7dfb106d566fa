import pytest

from mdiff_client.library.shards import WHOLE, Shard
from mdiff_core import UsageError


def test_the_shards_of_a_library_have_each_volume_once():
    shards = [Shard(i, 7) for i in range(7)]
    assert sorted(index for shard in shards for index in shard.indices(100)) == list(range(100))


def test_more_workers_than_volumes_leave_some_without_work():
    assert list(Shard.parse("8/9").indices(3)) == []


@pytest.mark.parametrize("text", ["3", "a/b", "3/3", "-1/2", "1/0"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match="shard"):
        Shard.parse(text)


@pytest.mark.parametrize("count", [3, 12, 100])
def test_shards_overlap_where_they_share_a_volume(count):
    some = [WHOLE, *(Shard(i, n) for n in (2, 3, 4, 6) for i in range(n))]
    for one in some:
        for other in some:
            assert one.overlaps(other, count) == bool({*one.indices(count)} & {*other.indices(count)})
