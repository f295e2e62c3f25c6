// The API's reference, drawn from /openapi.json. Each call can be tried from here.

const $ = (id) => document.getElementById(id);
let schemas = {};

function make(tag, name, text = "", ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  element.append(...children);
  return element;
}

const resolve = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").pop()] : schema) ?? {};

// A schema in a few words: "number, 0 to 2, default 0.2".
function words(given) {
  const schema = resolve(given);
  const bounds = [];
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  if (Math.abs(high) >= 2 ** 62) bounds.push("64 bits");
  else if (low !== undefined && high !== undefined) bounds.push(`${low} to ${high}`);
  else if (low !== undefined) bounds.push(`at least ${low}`);
  if (schema.maxItems) bounds.push(`at most ${schema.maxItems}`);
  const variants = schema.anyOf ?? schema.oneOf;
  let kind = schema.type ?? schema.title ?? "object";
  if (variants) kind = [...new Set(variants.map(words))].filter((word) => word !== "null").join(" or ");
  else if (schema.const !== undefined) kind = JSON.stringify(schema.const);
  else if (schema.enum) kind = schema.enum.map((value) => JSON.stringify(value)).join(", ");
  else if (schema.type === "array") kind = `list of ${schema.items ? words(schema.items) : "values"}`;
  else if (given?.$ref) kind = schema.title ?? kind;
  if (schema.default !== undefined && schema.default !== null) bounds.push(`default ${JSON.stringify(schema.default)}`);
  return [kind, ...bounds].join(", ");
}

function fields(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const must = schema.required?.includes(name) ? " (required)" : "";
    const about = field.description ?? "";
    return make("tr", "", "",
      make("td", "", "", make("code", "", name)), make("td", "", words(field) + must), make("td", "", about));
  });
  return make("table", "", "", ...rows);
}

function tryIt(method, path, example) {
  const box = make("div");
  const address = make("textarea", "", path);
  address.rows = 1;
  const input = make("textarea", "", example ? JSON.stringify(example, null, 1) : "");
  const output = make("pre");
  output.hidden = true;
  const button = make("button", "run", "Send");
  button.onclick = async () => {
    output.hidden = false;
    output.textContent = "…";
    const key = $("key").value.trim();
    const headers = { ...(example && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) };
    try {
      const response = await fetch(address.value.trim(), { method, headers, body: example ? input.value : undefined });
      const text = await response.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 1); } catch { /* not JSON: shown as it is */ }
      output.textContent = `${response.status} ${response.statusText}\n\n${shown}`;
    } catch {
      output.textContent = "The server cannot be reached.";
    }
  };
  if (path.includes("{")) box.append(address);
  if (example) box.append(input);
  box.append(button, output);
  return [...box.childNodes];
}

const EXAMPLES = {
  "/v1/chat/completions": { messages: [{ role: "user", content: "Hello!" }], max_tokens: 64 },
  "/v1/responses": { input: "Hello!", max_output_tokens: 64 },
  "/v2/nvcf/assets": { contentType: "image/png", description: "a picture" },
  "/v1/vlm/nvidia/neva-22b": { messages: [{ role: "user", content: "Hello!" }], max_tokens: 64, temperature: 0.2, top_p: 0.7, seed: 0, stream: false },
};

function call(method, path, operation) {
  const details = make("details", "", "", make("summary", "", "",
    make("span", "method", method.toUpperCase()), make("code", "", path), make("small", "", operation.summary ?? "")));
  const content = resolve(operation.requestBody?.content?.["application/json"]?.schema);
  if (operation.description) details.append(make("p", "", operation.description));
  if (content.properties) details.append(make("h3", "", "Fields"), fields(content));
  details.append(make("h3", "", "Try it"), ...tryIt(method.toUpperCase(), path, content.properties && (EXAMPLES[path] ?? {})));
  return details;
}

async function draw() {
  const api = await (await fetch("/openapi.json")).json();
  schemas = api.components?.schemas ?? {};
  $("version").textContent = api.info.version;
  $("about").textContent = api.info.description.replaceAll("`", "");
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "Other";
      groups.set(tag, [...(groups.get(tag) ?? []), call(method, path, operation)]);
    }
  }
  $("calls").replaceChildren(...[...groups].flatMap(([tag, calls]) => [make("h2", "", tag), ...calls]));
}

$("key").value = sessionStorage.getItem("neva-key") ?? "";
$("key").onchange = () => sessionStorage.setItem("neva-key", $("key").value);
draw();
