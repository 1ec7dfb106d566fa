"use strict";

const AXES = ["z", "y", "x"];
const THINNED = 128; // voxels along an axis of the 3D view, beyond which every n-th is drawn
const FIELD = Math.PI / 6; // that a view shows of height, or of width where it is narrow, radians
const REACH = 2; // voxels to each side that say how a surface lies
const data = JSON.parse(document.getElementById("data").textContent);

/** @returns a new element with properties and children. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Labels of a volume from base64 of zlib. */
async function unpacked(packed) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function loaded({ name, shape, packed }) {
  return { name, shape, labels: await unpacked(packed) };
}

/** Draw the section normal to an axis, a pixel a voxel: its rows and columns are the other axes in the order z, y, x. */
function drawSection(canvas, { shape, labels }, axis, index) {
  const [rows, columns] = [0, 1, 2].filter((other) => other !== axis);
  const strides = [shape[1] * shape[2], shape[2], 1];
  canvas.width = shape[columns];
  canvas.height = shape[rows];
  const image = new ImageData(canvas.width, canvas.height);
  const start = Math.min(index, shape[axis] - 1) * strides[axis];
  for (let row = 0, at = 0; row < canvas.height; row++) {
    for (let column = 0; column < canvas.width; column++, at += 4) {
      const label = labels[start + row * strides[rows] + column * strides[columns]];
      image.data.set(data.phases[label].colour, at);
      image.data[at + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Every n-th voxel along each axis, so that a view needs bounded memory. */
function thinned({ shape, labels }) {
  const step = Math.ceil(Math.max(...shape) / THINNED);
  if (step === 1) return { shape, labels, step };
  const small = shape.map((n) => Math.ceil(n / step));
  const chosen = new Uint8Array(small[0] * small[1] * small[2]);
  let at = 0;
  for (let z = 0; z < shape[0]; z += step)
    for (let y = 0; y < shape[1]; y += step)
      for (let x = 0; x < shape[2]; x += step) chosen[at++] = labels[(z * shape[1] + y) * shape[2] + x];
  return { shape: small, labels: chosen, step };
}

/**
 * The faces between voxels that are visible and those that are not, as three.js draws them. The voxels around a corner say
 * how the surface lies there, and whether it lies in a hollow, where it is darker.
 */
function surface(volume, visible) {
  const { shape, labels } = volume;
  const [depth, height, width] = shape;
  const clamp = (i, n) => Math.min(Math.max(i, 0), n - 1);
  const solidAt = (z, y, x) =>
    visible[labels[(clamp(z, depth) * height + clamp(y, height)) * width + clamp(x, width)]] ? 1 : 0;
  const corners = new Map();
  const corner = (z, y, x) => {
    const key = (z * (height + 1) + y) * (width + 1) + x;
    let found = corners.get(key);
    if (!found) {
      found = [0, 0, 0, 0];
      for (let dz = -REACH; dz < REACH; dz++)
        for (let dy = -REACH; dy < REACH; dy++)
          for (let dx = -REACH; dx < REACH; dx++)
            if (solidAt(z + dz, y + dy, x + dx)) {
              found[0] -= dz + 0.5;
              found[1] -= dy + 0.5;
              found[2] -= dx + 0.5;
              found[3] += 1 / (2 * REACH) ** 3;
            }
      const length = Math.hypot(found[0], found[1], found[2]) || 1;
      for (let i = 0; i < 3; i++) found[i] /= length;
      corners.set(key, found);
    }
    return found;
  };
  const positions = [], normals = [], colours = [], indices = [];
  const face = (z, y, x, axis, side, cut) => {
    const colour = data.phases[labels[(z * height + y) * width + x]].colour;
    const first = positions.length / 3;
    const [u, v] = side > 0 ? [(axis + 1) % 3, (axis + 2) % 3] : [(axis + 2) % 3, (axis + 1) % 3];
    for (const [a, b] of [[0, 0], [1, 0], [1, 1], [0, 1]]) {
      const at = [z, y, x];
      at[axis] += side > 0 ? 1 : 0;
      at[u] += a;
      at[v] += b;
      const flat = [0, 0, 0];
      flat[axis] = side;
      const around = cut ? [...flat, 0.5] : corner(...at);
      const lies = around[0] * flat[0] + around[1] * flat[1] + around[2] * flat[2] > 0 ? around : flat;
      positions.push(at[2], depth - at[0], at[1]);
      normals.push(lies[2], -lies[0], lies[1]);
      const shade = 1 - 1.1 * Math.max(0, around[3] - 0.5);
      colours.push(...colour.map((value) => (value / 255) ** 2.2 * shade));
    }
    indices.push(first, first + 2, first + 1, first, first + 3, first + 2);
  };
  for (let z = 0; z < depth; z++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (!solidAt(z, y, x)) continue;
        const at = [z, y, x];
        for (let axis = 0; axis < 3; axis++)
          for (const side of [-1, 1]) {
            const next = [...at];
            next[axis] += side;
            const cut = next[axis] < 0 || next[axis] >= shape[axis];
            if (cut || !solidAt(...next)) face(z, y, x, axis, side, cut);
          }
      }
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(positions), 3));
  geometry.setAttribute("normal", new THREE.BufferAttribute(new Float32Array(normals), 3));
  geometry.setAttribute("color", new THREE.BufferAttribute(new Float32Array(colours), 3));
  geometry.setIndex(new THREE.BufferAttribute(new Uint32Array(indices), 1));
  return geometry;
}

/** Lines between points [z, y, x] of a volume of this depth, two points a line. */
function lines(points, depth, colour, opacity) {
  const geometry = new THREE.BufferGeometry();
  const flat = points.flatMap(([z, y, x]) => [x, depth - z, y]);
  geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(flat), 3));
  return new THREE.LineSegments(geometry, new THREE.LineBasicMaterial({ color: colour, transparent: true, opacity }));
}

/** The outline of the section normal to an axis. */
function outline(shape, axis, index) {
  const [u, v] = [0, 1, 2].filter((other) => other !== axis);
  const ring = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([a, b]) => {
    const at = [0, 0, 0];
    at[axis] = index;
    at[u] = a * shape[u];
    at[v] = b * shape[v];
    return at;
  });
  return ring.flatMap((point, i) => [point, ring[(i + 1) % 4]]);
}

function letter(text, [z, y, x], depth, size) {
  const canvas = element("canvas", { width: 64, height: 64 });
  const pen = canvas.getContext("2d");
  pen.font = "44px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillStyle = "#8a929c";
  pen.fillText(text, 32, 32);
  const texture = new THREE.CanvasTexture(canvas);
  texture.colorSpace = THREE.SRGBColorSpace;
  const sprite = new THREE.Sprite(new THREE.SpriteMaterial({ map: texture }));
  sprite.position.set(x, depth - z, y);
  sprite.scale.setScalar(size);
  return sprite;
}

/** A view of a volume that rotates; all views share one camera. */
class View {
  constructor(canvas, camera, redrawAll) {
    this.canvas = canvas;
    this.camera = camera;
    this.renderer = new THREE.WebGLRenderer({ canvas, alpha: true, antialias: true, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(window.devicePixelRatio);
    this.controls = new THREE.OrbitControls(camera, canvas);
    this.controls.enablePan = false;
    this.controls.addEventListener("change", redrawAll);
    this.scene = new THREE.Scene();
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12] }[event.key];
      const zoom = { "+": 0.9, "=": 0.9, "-": 1.1 }[event.key];
      if (!move && !zoom) return;
      event.preventDefault();
      this.rotate(...(move ?? [0, 0]), zoom ?? 1);
      redrawAll();
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  /** Move the camera around the middle by angles, and nearer to it or away. */
  rotate(around, over, zoom = 1) {
    const { position } = this.camera;
    const middle = this.controls.target;
    const [x, y, z] = [position.x - middle.x, position.y - middle.y, position.z - middle.z];
    const radius = Math.hypot(x, y, z) * zoom;
    const theta = Math.atan2(x, z) + around;
    const phi = Math.min(Math.max(Math.acos(y / Math.hypot(x, y, z)) + over, 0.02), Math.PI - 0.02);
    position.set(
      middle.x + radius * Math.sin(phi) * Math.sin(theta),
      middle.y + radius * Math.cos(phi),
      middle.z + radius * Math.sin(phi) * Math.cos(theta),
    );
    this.camera.lookAt(middle);
  }

  show(volume, visible) {
    for (const old of this.scene.children) old.geometry?.dispose();
    const small = thinned(volume);
    const { shape } = small;
    const [depth, height, width] = shape;
    const size = Math.max(...shape);
    const light = new THREE.DirectionalLight(0xffffff, 2.4);
    this.lamp = light;
    const corners = [0, 1, 2].flatMap((axis) => [0, shape[axis]].flatMap((index) => outline(shape, axis, index)));
    this.frames = AXES.map((_, axis) => lines(outline(shape, axis, 0), depth, 0xd0572b, 1));
    this.scene = new THREE.Scene().add(
      new THREE.AmbientLight(0xffffff, 1.15),
      light,
      new THREE.Mesh(surface(small, visible), new THREE.MeshLambertMaterial({ vertexColors: true })),
      lines(corners, depth, 0x8a929c, 0.5),
      letter("x", [depth, height * 1.07, width / 2], depth, size / 11),
      letter("y", [depth, height / 2, width * 1.07], depth, size / 11),
      letter("z", [depth / 2, height * 1.05, -width * 0.05], depth, size / 11),
      ...this.frames,
    );
    this.small = small;
    this.controls.target.set(width / 2, depth / 2, height / 2);
    this.redraw();
  }

  /** Frame the sections. */
  frame(indices) {
    const { shape, step } = this.small;
    this.frames.forEach((frame, axis) => {
      const points = outline(shape, axis, Math.min((indices[axis] + 0.5) / step, shape[axis]));
      frame.geometry.attributes.position.array.set(points.flatMap(([z, y, x]) => [x, shape[0] - z, y]));
      frame.geometry.attributes.position.needsUpdate = true;
    });
    this.redraw();
  }

  /** Draw before the next frame, however often it is asked for. */
  redraw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = undefined;
      this.draw();
    });
  }

  draw() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !this.small) return;
    this.renderer.setSize(clientWidth, clientHeight, false);
    this.camera.aspect = clientWidth / clientHeight;
    const narrow = Math.min(this.camera.aspect / 1.1, 1);
    this.camera.fov = (2 * Math.atan(Math.tan(FIELD / 2) / narrow) * 180) / Math.PI;
    this.camera.updateProjectionMatrix();
    // Above and to the left of whoever looks.
    this.lamp.position.set(-0.7, 0.8, 1).applyQuaternion(this.camera.quaternion);
    this.renderer.render(this.scene, this.camera);
  }
}

/** The views, or none where the browser has no WebGL: then the sections alone are there. */
function makeViews(canvases, redrawAll) {
  try {
    const camera = new THREE.PerspectiveCamera();
    return canvases.map((canvas) => new View(canvas, camera, redrawAll));
  } catch (error) {
    complain(`This browser shows no 3D view (${error.message}). The sections are not affected.`);
    document.getElementById("views").hidden = true;
    return [];
  }
}

function complain(text) {
  const place = document.getElementById("failure");
  place.textContent = text;
  place.hidden = false;
}

async function start() {
  const real = data.real && (await loaded(data.real));
  let made = await loaded(data.volumes[0]);
  const shown = () => [made, ...(real ? [real] : [])];
  const visible = data.phases.map((_, label) => label > 0);

  const isImage = ({ shape }) => shape[0] === 1;
  const solid = () => shown().filter((volume) => !isImage(volume));
  const canvases = solid().map((volume, i) => {
    const canvas = element("canvas", { className: "view", tabIndex: 0 });
    canvas.setAttribute("role", "img");
    const caption = element("figcaption", { textContent: volume.name });
    canvas.setAttribute("aria-label", `3D view: ${i ? "real" : "generated"}; the arrow keys rotate it`);
    document.getElementById("views").append(element("figure", {}, canvas, caption));
    return { canvas, caption };
  });
  const views = makeViews(canvases.map(({ canvas }) => canvas), () => views.forEach((view) => view.redraw()));

  const planes = AXES.map((axis, i) => {
    const slider = element("input", { type: "range", min: 0, id: `section-${axis}` });
    const output = element("output", {});
    const rest = AXES.filter((other) => other !== axis);
    const figures = (i === 0 ? shown() : solid()).map((volume, j) => {
      const canvas = element("canvas", { id: `${j ? "real" : "made"}-${axis}` });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${j ? "Real" : "Generated"} section normal to ${axis}`);
      const caption = `${j ? "Real" : "Generated"}: ${rest[1]} to the right, ${rest[0]} down`;
      return { canvas, figure: element("figure", {}, canvas, element("figcaption", { textContent: caption })) };
    });
    const title = element("span", { textContent: `Section ${axis}` });
    const plane = element("div", { className: "plane" }, element("label", { htmlFor: slider.id }, title, output, slider));
    plane.append(...figures.map(({ figure }) => figure));
    document.getElementById("sections").append(plane);
    const draw = () => {
      const index = Number(slider.value);
      output.value = `${index} of ${made.shape[i] - 1}`;
      slider.setAttribute("aria-valuetext", `voxel ${output.value}`);
      figures.forEach(({ canvas }, j) => drawSection(canvas, shown()[j], i, index));
    };
    const fit = () => {
      slider.max = made.shape[i] - 1;
      slider.value = Math.floor(made.shape[i] / 2);
    };
    return { slider, draw, fit };
  });

  const frame = () => views.forEach((view) => view.frame(planes.map(({ slider }) => Number(slider.value))));
  const show = () =>
    views.forEach((view, i) => {
      const volume = solid()[i];
      view.show(volume, visible);
      const { step } = view.small;
      canvases[i].caption.textContent = volume.name + (step > 1 ? `; one of ${step} voxels along each axis` : "");
    });
  const showAll = () => {
    planes.forEach(({ fit, draw }) => (fit(), draw()));
    show();
    frame();
  };
  planes.forEach(({ slider, draw }) => slider.addEventListener("input", () => (draw(), frame())));

  const choice = document.getElementById("volume");
  choice.append(...data.volumes.map(({ name }, i) => element("option", { value: i, textContent: name })));
  document.getElementById("choice").hidden = data.volumes.length === 1;
  choice.addEventListener("change", async () => {
    made = await loaded(data.volumes[choice.value]);
    showAll();
  });

  document.getElementById("phases").append(
    ...data.phases.map(({ name, colour }, label) => {
      const box = element("input", { type: "checkbox", checked: visible[label] });
      box.addEventListener("change", () => {
        visible[label] = box.checked;
        show();
        frame();
      });
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = `rgb(${colour})`;
      return element("label", {}, box, swatch, name);
    }),
  );

  const turn = document.getElementById("turn");
  turn.hidden = !views.length;
  turn.addEventListener("click", () => {
    const on = turn.getAttribute("aria-pressed") === "false";
    turn.setAttribute("aria-pressed", on);
    const step = () => {
      if (turn.getAttribute("aria-pressed") === "false") return;
      views[0].rotate(0.008, 0);
      views.forEach((view) => view.redraw());
      requestAnimationFrame(step);
    };
    if (on) requestAnimationFrame(step);
  });

  if (views.length) {
    const [depth, height, width] = thinned(made).shape;
    const away = Math.hypot(depth, height, width) * 1.92;
    views[0].camera.far = away * 100;
    views[0].camera.position.set(width / 2 + away * 0.46, depth / 2 + away * 0.36, height / 2 + away * 0.81);
    views[0].camera.lookAt(width / 2, depth / 2, height / 2);
  }
  showAll();
  await new Promise(requestAnimationFrame);
  document.body.dataset.ready = "yes";
}

start().catch((error) => complain(`The pictures cannot be drawn (${error.message}).`));
