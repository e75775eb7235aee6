// What a reader would trip over on the page that is open. Each function returns what is wrong.

const shown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const words = (element) => `${element.tagName.toLowerCase()}: ${element.textContent.trim().slice(0, 60)}`;

const brokenPictures = async () => {
  const pictures = [...document.querySelectorAll("article img")];
  pictures.forEach((picture) => { picture.loading = "eager"; });
  await Promise.allSettled(pictures.map((picture) => picture.decode()));
  return pictures.filter((picture) => !picture.naturalWidth).map((picture) => picture.src);
};

const unsetEquations = () =>
  [...document.querySelectorAll(".arithmatex")]
    .filter((place) => !place.querySelector(".katex") || place.querySelector(".katex-error"))
    .map(words);

const sidewaysScroll = () => {
  const { scrollWidth, clientWidth } = document.scrollingElement;
  return scrollWidth > clientWidth ? [`${scrollWidth} px on a page of ${clientWidth}`] : [];
};

const brokenWords = () =>
  [...document.querySelectorAll("article td code")].filter((code) => {
    const walk = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      for (const word of walk.currentNode.data.matchAll(/\S+/g)) {
        const range = document.createRange();
        range.setStart(walk.currentNode, word.index);
        range.setEnd(walk.currentNode, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
        if (lines.size > 1) return true;
      }
    }
    return false;
  }).map(words);

const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const channels = (colour) => {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = ([r, g, b, a], below) =>
  [r, g, b].map((value, k) => value * a + below[k] * (1 - a));
const backdrop = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(channels(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
};
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

// The ratio of the Web Content Accessibility Guidelines, level AA: 4.5, and 3 for large text.
const faintText = () => {
  const found = new Map();
  const walk = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest(".katex-mathml, .headerlink") || !shown(element)) continue;
    const style = getComputedStyle(element);
    const behind = backdrop(element);
    const [light, dark] = [luminance(over(channels(style.color), behind)), luminance(behind)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.set(`${element.className} ${style.color}`, `${ratio.toFixed(2)} ${words(element)}`);
  }
  return [...found.values()];
};
