// The chat page: keeps the conversation, sends it to /v1/chat/completions, shows the stream.
// Text is only ever set as textContent, so nothing an answer says becomes markup.

const $ = (id) => document.getElementById(id);
const LARGEST = 3 * 1024 * 1024; // bytes of a picture sent as it is; a larger one is scaled down
const SIDE = 1600; // pixels of the longer side after scaling
const SENT = ["image/png", "image/jpeg", "image/webp", "image/gif"]; // what the server reads
const SAMPLE = 320; // pixels of a side of the page's own drawings
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];

const turns = []; // {role, text, pictures: [data URI]}
let shelf = []; // data URIs waiting to be sent
let running = null; // AbortController of the answer under way

// ---------------------------------------------------------------- pictures

const asDataUri = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

function drawn(picture, width, height, type) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL(type, 0.92);
}

// Whatever the browser can read becomes something that the server can; what neither can throws.
async function readable(file) {
  const picture = await createImageBitmap(file);
  if (SENT.includes(file.type) && file.size <= LARGEST) return asDataUri(file);
  const factor = Math.min(1, SIDE / Math.max(picture.width, picture.height));
  return drawn(picture, picture.width * factor, picture.height * factor, "image/jpeg");
}

async function add(files) {
  forgive();
  for (const file of files) {
    try {
      shelf.push(await readable(file));
    } catch {
      complain(`${file.name || "This file"} is not a picture that your browser can read.`);
    }
  }
  showShelf();
  $("question").focus();
}

function showShelf() {
  $("shelf").replaceChildren(...shelf.map((uri, index) => {
    const figure = document.createElement("figure");
    const remove = make("button", "", "×");
    remove.type = "button";
    remove.ariaLabel = "Remove the picture";
    remove.onclick = () => { shelf.splice(index, 1); showShelf(); };
    figure.append(image(uri), remove);
    return figure;
  }));
  $("shelf").hidden = shelf.length === 0;
  ready();
}

// ---------------------------------------------------------------- showing

function make(tag, name, text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

function image(uri) {
  const element = document.createElement("img");
  element.src = uri;
  element.alt = "The picture you added";
  return element;
}

function show(turn) {
  const item = make("li", `turn ${turn.role}`);
  if (turn.pictures.length) {
    const row = make("div", "pictures");
    row.append(...turn.pictures.map(image));
    item.append(row);
  }
  const words = make("p", "words", turn.text);
  if (turn.text || turn.role === "assistant") item.append(words);
  turn.item = item;
  $("talk").append(item);
  $("welcome").hidden = true;
  follow(true);
  return { item, words };
}

function complain(message) {
  const item = make("li", "turn");
  item.append(make("p", "trouble", message));
  item.setAttribute("role", "alert");
  $("talk").append(item);
  $("welcome").hidden = true;
  follow(true);
}

// What was complained of is over when something else is tried.
function forgive() {
  for (const trouble of document.querySelectorAll(".trouble")) trouble.closest("li").remove();
  $("welcome").hidden = turns.length > 0;
}

function follow(always = false) {
  const box = $("scroll");
  if (always || box.scrollHeight - box.scrollTop - box.clientHeight < 120) {
    box.scrollTop = box.scrollHeight;
  }
}

function footer(item, turn, figures) {
  const foot = make("div", "foot");
  const copy = make("button", "quiet", "Copy");
  copy.onclick = async () => {
    await navigator.clipboard.writeText(turn.text);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  };
  const again = make("button", "quiet", "Try again");
  again.onclick = () => {
    if (running || turns.at(-1) !== turn) return;
    turns.pop();
    item.remove();
    answer();
  };
  foot.append(copy, again, make("span", "", figures));
  item.append(foot);
  follow();
}

// ---------------------------------------------------------------- asking

function headers() {
  const key = $("key").value.trim();
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

function message(turn) {
  if (!turn.pictures.length) return { role: turn.role, content: turn.text };
  const pictures = turn.pictures.map((url) => ({ type: "image_url", image_url: { url } }));
  return { role: turn.role, content: [...pictures, { type: "text", text: turn.text }] };
}

function body() {
  const said = { messages: turns.map(message), stream: true, stream_options: { include_usage: true } };
  for (const name of NUMBERS) {
    const value = $(name).valueAsNumber;
    if (Number.isFinite(value)) said[name] = value;
  }
  return JSON.stringify(said);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

async function problem(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with ${response.status}.`;
  }
}

function busy(controller) {
  running = controller;
  $("composer").classList.toggle("busy", Boolean(controller));
  $("send").ariaLabel = controller ? "Stop" : "Send";
  $("send").title = controller ? "Stop (Esc)" : "Send (Enter)";
  ready();
}

async function hear(response, turn, words, started) {
  let first = 0;
  let usage = null;
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const piece = event.choices[0]?.delta?.content;
    if (piece) {
      first ||= performance.now();
      turn.text += piece;
      words.textContent = turn.text;
      follow();
    }
    usage = event.usage ?? usage;
  }
  if (!usage || !first) return "";
  const seconds = (performance.now() - first) / 1000;
  const speed = usage.completion_tokens > 1 && seconds > 0
    ? ` · ${((usage.completion_tokens - 1) / seconds).toFixed(0)} tokens/s` : "";
  return `${((first - started) / 1000).toFixed(2)} s to first word · ${usage.completion_tokens} tokens${speed}`;
}

async function answer() {
  const controller = new AbortController();
  const request = body();
  const turn = { role: "assistant", text: "", pictures: [] };
  const { item, words } = show(turn);
  item.classList.add("writing");
  busy(controller);
  const started = performance.now();
  let figures = "";
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST", headers: headers(), body: request, signal: controller.signal,
    });
    if (!response.ok) throw new Error(await problem(response));
    figures = await hear(response, turn, words, started);
  } catch (error) {
    controller.failed = true;
    if (error.name === "AbortError") figures = "stopped";
    else complain(error instanceof TypeError ? "The server cannot be reached." : error.message);
  }
  item.classList.remove("writing");
  if (turn.text) {
    turns.push(turn);
    footer(item, turn, figures);
  } else {
    item.remove();
    if (!controller.failed && figures !== "stopped") complain("The model had nothing to say.");
    giveBack();
  }
  busy(null);
  $("question").focus();
}

// A question that got no answer goes back to the composer, so that turns keep alternating.
function giveBack() {
  const turn = turns.pop();
  if (!turn) return; // a new chat was begun meanwhile
  turn.item.remove();
  $("question").value ||= turn.text;
  shelf = [...turn.pictures, ...shelf];
  showShelf();
}

function ask() {
  const text = $("question").value.trim();
  if (!text && !shelf.length) return;
  forgive();
  const turn = { role: "user", text: text || "Describe the picture.", pictures: shelf };
  turns.push(turn);
  show(turn);
  shelf = [];
  $("question").value = "";
  grow();
  showShelf();
  answer();
}

// ---------------------------------------------------------------- the page

function ready() {
  $("send").disabled = !running && !$("question").value.trim() && !shelf.length;
}

function grow() {
  const box = $("question");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
  ready();
}

async function greet() {
  try {
    const response = await fetch("/v1/models", { headers: headers() });
    if (response.status === 401) {
      $("model-name").textContent = "needs an API key";
      $("settings").hidden = false;
      return;
    }
    if (!response.ok) throw new Error("not ready");
    const model = (await response.json()).data[0];
    $("model-name").textContent = `${model.id} · ${model.neva.engine} ${model.neva.precision}`;
    if (model.neva.engine === "remote") $("beyond").textContent = " and on to the model\u2019s own";
    $("max_tokens").max = model.max_model_len || "";
    $("dot").className = "dot ready";
  } catch (error) {
    $("dot").className = error instanceof TypeError ? "dot down" : "dot";
    $("model-name").textContent = error instanceof TypeError ? "server not reached" : "loading the model…";
    setTimeout(greet, 1000);
  }
}

for (const name of ["temperature", "top_p"]) {
  $(name).oninput = () => { $(`${name}-shown`).value = $(name).value; };
}
$("key").value = sessionStorage.getItem("neva-key") ?? "";
$("key").onchange = () => { sessionStorage.setItem("neva-key", $("key").value); greet(); };
$("tune").onclick = () => {
  $("settings").hidden = !$("settings").hidden;
  $("tune").ariaExpanded = String(!$("settings").hidden);
};
$("fresh").onclick = () => {
  running?.abort();
  turns.length = 0;
  shelf = [];
  $("talk").replaceChildren();
  $("welcome").hidden = false;
  showShelf();
  $("question").focus();
};
$("choose").onclick = $("attach").onclick = () => $("file").click();
$("file").onchange = () => { add([...$("file").files]); $("file").value = ""; };
$("question").oninput = grow;
$("question").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!running) ask();
  }
};
$("composer").onsubmit = (event) => {
  event.preventDefault();
  if (running) running.abort();
  else ask();
};
document.onkeydown = (event) => { if (event.key === "Escape") running?.abort(); };
document.onpaste = (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) { event.preventDefault(); add(files); }
};
document.ondragover = (event) => { event.preventDefault(); $("veil").hidden = false; };
document.ondragleave = (event) => { if (!event.relatedTarget) $("veil").hidden = true; };
document.ondrop = (event) => {
  event.preventDefault();
  $("veil").hidden = true;
  add([...event.dataTransfer.files]);
};
for (const sample of document.querySelectorAll(".sample")) {
  sample.onclick = () => {
    if (running) return;
    shelf.push(drawn(sample.firstElementChild, SAMPLE, SAMPLE, "image/png"));
    $("question").value = sample.dataset.question;
    ask();
  };
}
ready();
greet();
