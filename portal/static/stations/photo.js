"use strict";
/* The photo of an emergency case: chosen or taken, cut to the card's size in the browser, then sent with the form. */
(() => {
  const box = document.getElementById("photo-box");
  const file = box.querySelector("[data-photo-file]");
  const canvas = box.querySelector("[data-canvas]");
  const video = box.querySelector("[data-camera]");
  const crop = box.querySelector("[data-crop-box]");
  const shoot = box.querySelector("[data-camera-shoot]");
  const state = box.querySelector("[data-photo-state]");
  const sliders = ["zoom", "left", "top"].map((name) => box.querySelector(`[data-${name}]`));
  const limits = { width: Number(box.dataset.width), height: Number(box.dataset.height), least: Number(box.dataset.least), most: Number(box.dataset.most) };
  const QUALITIES = [0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5];
  let source = null;

  function say(name, values = {}) {
    state.textContent = box.dataset[name].replace(/\{(\w+)\}/g, (_all, key) => ({ ...limits, ...values })[key]);
  }

  function draw() {
    const [zoom, left, top] = sliders.map((slider) => Number(slider.value) / 100);
    const width = source.naturalWidth || source.width, height = source.naturalHeight || source.height;
    const scale = Math.max(limits.width / width, limits.height / height) * zoom;
    const shown = { width: limits.width / scale, height: limits.height / scale };
    const context = canvas.getContext("2d", { alpha: false });
    context.imageSmoothingQuality = "high";
    context.fillStyle = "white";
    context.fillRect(0, 0, limits.width, limits.height);
    context.drawImage(source, (width - shown.width) * left, (height - shown.height) * top, shown.width, shown.height, 0, 0, limits.width, limits.height);
  }

  function begin(picture) {
    source = picture;
    sliders.forEach((slider, place) => { slider.value = place ? "50" : "100"; });
    crop.hidden = false;
    draw();
    const width = picture.naturalWidth || picture.width, height = picture.naturalHeight || picture.height;
    if (width < limits.width || height < limits.height) say("tooSmall", { width, height });
    else say("crop");
    sliders[0].focus();
  }

  function blobOf(quality) {
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
  }

  /* The best quality that fits the limit of the file's size. */
  async function use() {
    let found = await blobOf(1);
    for (const quality of QUALITIES) {
      if (found.size <= limits.most) break;
      found = await blobOf(quality);
    }
    if (found.size > limits.most) return say("tooHeavy");
    if (found.size < limits.least) return say("tooLight", { size: found.size });
    const carried = new DataTransfer();
    carried.items.add(new File([found], "photo.jpg", { type: "image/jpeg" }));
    file.files = carried.files;
    say("ready", { size: found.size });
  }

  file.addEventListener("change", () => {
    const [chosen] = file.files;
    if (!chosen) return;
    stop();
    const picture = new Image();
    const address = URL.createObjectURL(chosen);
    picture.addEventListener("load", () => {
      URL.revokeObjectURL(address);
      // One that already is what cards take goes as it is, without a second loss of quality.
      const fits = picture.naturalWidth === limits.width && picture.naturalHeight === limits.height && chosen.size >= limits.least && chosen.size <= limits.most;
      if (!(fits && chosen.type === "image/jpeg")) return begin(picture);
      source = picture;
      crop.hidden = false;
      sliders.forEach((slider, place) => { slider.value = place ? "50" : "100"; });
      draw();
      say("ready", { size: chosen.size });
    });
    picture.addEventListener("error", () => {
      URL.revokeObjectURL(address);
      file.value = "";
      say("unreadable");
    });
    picture.src = address;
  });
  for (const slider of sliders) slider.addEventListener("input", () => source && draw());
  box.querySelector("[data-use]").addEventListener("click", use);

  function stop() {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    video.hidden = shoot.hidden = true;
  }

  /* Without TLS browsers have no mediaDevices at all; every message says that a file does as well. */
  const REFUSALS = { NotAllowedError: "denied", NotReadableError: "cameraBusy", AbortError: "cameraBusy", TypeError: "insecure" };

  box.querySelector("[data-camera-on]").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, height: { ideal: 1080 } }, audio: false });
      video.srcObject.getVideoTracks()[0].addEventListener("ended", () => {
        stop();
        say("cameraGone");
      });
      video.hidden = shoot.hidden = false;
      await video.play();
      say("aim");
      shoot.focus();
    } catch (refusal) {
      stop();
      say(REFUSALS[refusal.name] ?? "noCamera");
    }
  });
  shoot.addEventListener("click", () => {
    const taken = document.createElement("canvas");
    taken.width = video.videoWidth;
    taken.height = video.videoHeight;
    taken.getContext("2d").drawImage(video, 0, 0);
    stop();
    begin(taken);
  });
})();
