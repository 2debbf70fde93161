"use strict";

const SENT_AS_THEY_ARE = ["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif", "image/tiff"];
const SHOWN_AT_FIRST = 5;
const ALL_IF_SO_FEW = 8;
const LONGEST_SIDE = 2048;

const element = (id) => document.getElementById(id);
let model = { classes: 0, max_payload: Infinity };
let image = null; // { blob, name } as it is sent
let chosen = null; // the class whose evidence is shown; null is the winning one
let showsAll = false;
let asked = null; // aborts the request that is under way
let first = null; // the answer for the winning class

function say(text) {
  element("status").textContent = text;
}

function complain(text) {
  element("error").textContent = text;
  element("error").hidden = !text;
}

/* What is asked. */

function accept(withMap) {
  const parts = ["application/json", "verbose=true"];
  if (withMap) {
    parts.push("explain=cam", "layer=true");
    if (chosen !== null) parts.push(`class="${encodeURIComponent(chosen)}"`);
  }
  return parts.join("; ");
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function showCommand(withMap) {
  const name = image ? image.name : "IMAGE.jpg";
  const type = image ? image.blob.type : "image/jpeg";
  const address = new URL("invocations", document.baseURI).href;
  element("curl").textContent =
    `curl --data-binary ${quoted("@" + name)} -H ${quoted("Content-Type: " + type)} ` +
    `-H ${quoted("Accept: " + accept(withMap))} ${quoted(address)}`;
}

async function ask() {
  if (!image) return;
  if (asked) asked.abort();
  const request = (asked = new AbortController());
  complain("");
  const slow = setTimeout(() => say("Asking …"), 150);
  try {
    let reply = await send(element("explain").checked, request.signal);
    const mapless = reply.lacksMap ? reply.refusal : "";
    if (mapless) reply = await send(false, request.signal);
    if (!reply.answer) throw new Error(reply.refusal);
    show(reply.answer, reply.took, mapless);
  } catch (error) {
    if (error.name === "AbortError") return;
    say("No answer.");
    complain(error.message === "Failed to fetch" ? "The server does not answer." : error.message);
  } finally {
    clearTimeout(slow);
  }
}

async function send(withMap, signal) {
  showCommand(withMap);
  const started = performance.now();
  const response = await fetch("invocations", {
    method: "POST",
    body: image.blob,
    headers: { "Content-Type": image.blob.type, Accept: accept(withMap) },
    signal,
  });
  const text = await response.text();
  const took = performance.now() - started;
  if (response.ok) return { answer: JSON.parse(text), took };
  // A busy server says when to come back, and is not to be asked again at once.
  const busy = response.headers.has("Retry-After");
  const lacksMap = withMap && (response.status === 501 || (response.status === 503 && !busy));
  return { refusal: sentence(text, response.status), lacksMap };
}

function sentence(text, status) {
  try {
    return JSON.parse(text).error;
  } catch {
    return `The server answered ${status}.`;
  }
}

/* What is shown. */

function percent(share) {
  return share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/* `mapless` says why there is no heat map where one was asked for. */
function show(answer, took, mapless) {
  const explanation = answer.explanation;
  first = answer.predictions || answer;
  const shown = explanation ? explanation.label : null;
  drawClasses(first, shown);
  drawLayer(explanation);
  const best = first[0];
  const other = shown !== null && shown !== best.label ? ` Shown is the evidence for ${shown}.` : "";
  const without = mapless ? ` There is no heat map. ${mapless}` : "";
  say(`${best.label}, ${percent(best.probability)}. Answered in ${took.toFixed(took < 10 ? 1 : 0)} ms.${other}${without}`);
  element("heat").hidden = element("why").hidden = Boolean(mapless);
  element("raw").hidden = false;
  const brief = (key, value) => (key === "layer" ? value.slice(0, 40) + "…" : value);
  element("json").textContent = JSON.stringify(answer, brief, 1).replace(/\[[\s\d.,-]+\]/g, (row) => row.replace(/\s+/g, " "));
}

function drawClasses(predictions, pressed) {
  const few = predictions.length <= ALL_IF_SO_FEW;
  const count = showsAll || few ? predictions.length : SHOWN_AT_FIRST;
  const focused = document.activeElement && document.activeElement.dataset.label;
  const rows = predictions.slice(0, count).map(({ label, probability }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.label = label;
    button.setAttribute("aria-pressed", String(label === pressed));
    const part = (tag, kind, text) => {
      const span = document.createElement(tag);
      span.className = kind;
      span.textContent = text;
      return span;
    };
    const track = part("span", "track", "");
    const bar = part("span", "bar", "");
    bar.style.width = `${100 * probability}%`;
    track.append(bar);
    button.append(part("span", "name", label), part("span", "share", percent(probability)), track);
    button.addEventListener("click", () => {
      chosen = label;
      element("explain").checked = true;
      ask();
    });
    const row = document.createElement("li");
    row.append(button);
    return row;
  });
  element("classes").replaceChildren(...rows);
  if (focused !== undefined) {
    const again = rows.map((row) => row.firstChild).find((button) => button.dataset.label === focused);
    if (again) again.focus();
  }
  const all = element("all");
  all.hidden = few;
  all.setAttribute("aria-expanded", String(showsAll));
  all.textContent = showsAll ? `Show the best ${SHOWN_AT_FIRST} only` : `Show all ${predictions.length} classes`;
}

function drawLayer(explanation) {
  const layer = element("layer");
  layer.hidden = !explanation;
  if (!explanation) return;
  const { box, image: size } = explanation;
  layer.src = explanation.layer;
  layer.style.left = `${(100 * box.left) / size.width}%`;
  layer.style.top = `${(100 * box.top) / size.height}%`;
  layer.style.width = `${(100 * box.width) / size.width}%`;
  layer.style.height = `${(100 * box.height) / size.height}%`;
  element("explained").textContent = explanation.label;
}

/* What was said of another image. */
function forget() {
  element("classes").replaceChildren();
  for (const part of ["layer", "heat", "all", "why", "raw"]) element(part).hidden = true;
}

/* Where images come from. */

async function take(file) {
  complain("");
  try {
    const blob = await acceptable(file);
    const resized = blob !== file;
    image = { blob, name: resized ? renamed(file.name) : file.name || "image" };
    element("resized").hidden = !resized;
    if (resized) {
      element("resized").textContent =
        `Made into a JPEG of ${megabytes(blob.size)} here in the browser: the server takes up to ` +
        `${megabytes(model.max_payload)}, and this was ${file.type || "an unknown type"} of ${megabytes(file.size)}.`;
    }
  } catch (error) {
    complain(error.message);
    return;
  }
  const picture = element("picture");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(image.blob);
  picture.alt = `The image ${image.name}`;
  element("figure").hidden = false;
  element("hint").hidden = true;
  chosen = null;
  forget();
  await ask();
}

/* The file itself where the server takes it, else a JPEG of it that is small enough. */
async function acceptable(file) {
  if (SENT_AS_THEY_ARE.includes(file.type) && file.size <= model.max_payload) return file;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    if (file.size > model.max_payload) throw new Error(`The server takes up to ${megabytes(model.max_payload)}.`);
    return new File([file], file.name, { type: "application/x-image" }); // the server says what is wrong
  }
  for (let side = LONGEST_SIDE; side >= 256; side /= 2) {
    const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const pen = canvas.getContext("2d");
    pen.fillStyle = "white";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await jpeg(canvas);
    if (blob.size <= model.max_payload) return blob;
  }
  throw new Error(`This image cannot be made small enough: the server takes up to ${megabytes(model.max_payload)}.`);
}

function jpeg(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

function renamed(name) {
  return `${(name || "image").replace(/\.[^.]*$/, "")}.jpg`;
}

function megabytes(bytes) {
  return bytes < 1e5 ? `${Math.ceil(bytes / 1024)} KB` : `${(bytes / 2 ** 20).toFixed(1)} MB`;
}

function firstImage(files) {
  const found = [...files].find((file) => file.type.startsWith("image/")) || files[0];
  if (found) take(found);
}

async function openCamera() {
  if (!navigator.mediaDevices) {
    element("capture").click(); // phones have an app for it, which needs no secure connection
    return;
  }
  try {
    element("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    element("shot").showModal();
  } catch {
    complain("There is no camera that this page may use; choose an image instead.");
  }
}

function closeCamera() {
  const stream = element("video").srcObject;
  if (stream) stream.getTracks().forEach((track) => track.stop());
  element("video").srcObject = null;
}

async function shoot() {
  const video = element("video");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  if (!canvas.width) return;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await jpeg(canvas);
  element("shot").close();
  take(new File([blob], "camera.jpg", { type: blob.type }));
}

async function introduce() {
  const response = await fetch("page/model.json").catch(() => null);
  if (response && response.status === 503) {
    element("model").textContent = "The model is still loading …";
    setTimeout(introduce, 500);
  } else if (!response || !response.ok) {
    const text = response ? await response.text() : "";
    element("model").textContent = response ? sentence(text, response.status) : "The server does not answer.";
  } else {
    model = await response.json();
    element("model").textContent = `${model.architecture} · ${model.classes} classes · ${model.engine}`;
  }
}

for (const input of [element("file"), element("capture")]) {
  input.addEventListener("change", () => {
    firstImage(input.files);
    input.value = "";
  });
}
document.addEventListener("paste", (event) => firstImage(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("zone").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) element("zone").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("zone").classList.remove("over");
  firstImage(event.dataTransfer.files);
});
element("explain").addEventListener("change", ask);
element("all").addEventListener("click", () => {
  showsAll = !showsAll;
  const pressed = element("layer").hidden ? null : element("explained").textContent;
  drawClasses(first, pressed);
});
element("camera").addEventListener("click", openCamera);
element("take").addEventListener("click", shoot);
element("close").addEventListener("click", () => element("shot").close());
element("shot").addEventListener("close", closeCamera);
element("copy").addEventListener("click", async () => {
  const selection = getSelection();
  selection.selectAllChildren(element("curl"));
  try {
    await navigator.clipboard.writeText(element("curl").textContent);
    element("copy").textContent = "Copied";
    setTimeout(() => (element("copy").textContent = "Copy"), 1500);
  } catch {
    element("copy").textContent = "Selected"; // without a secure connection the browser keeps the clipboard
  }
});
showCommand(element("explain").checked);
introduce();
