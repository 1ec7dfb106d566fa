// What the report uses of three.js; README.md says how three.min.js is made of it.
export {
  AmbientLight, BufferAttribute, BufferGeometry, CanvasTexture, DirectionalLight, LineBasicMaterial, LineSegments, Mesh,
  MeshLambertMaterial, PerspectiveCamera, Scene, Sprite, SpriteMaterial, SRGBColorSpace, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
