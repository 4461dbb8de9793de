// A translator in the browser alone: transformers.js writes, and the page of `look` shows where each head looked.
//
// Dimension letters: L layers, H heads, T tokens that were written, S tokens that were read.

import { AutoModelForSeq2SeqLM, AutoTokenizer, env } from "@huggingface/transformers";

const beside = (name) => new URL(name, document.baseURI).href;
env.allowRemoteModels = false; // what is not beside the page is an error, not a download
env.allowLocalModels = true;
env.localModelPath = "./"; // of the page; whole addresses are taken for remote ones
env.useBrowserCache = false; // a model that was built anew is another model of the same name
env.backends.onnx.wasm.wasmPaths = { wasm: beside("ort-wasm-simd-threaded.wasm") };
env.backends.onnx.wasm.numThreads = 1; // more need headers that a plain file server does not send

const WORDS = {
  en: {
    title: "Translate here, and see where it looked",
    lead: "The whole model runs in this browser: nothing that you type leaves it.",
    text: "Text (Enter translates)",
    run: "Translate",
    look: "Where each head looked",
    other: "한국어",
    loading: () => "Loading the model …",
    ready: (seconds) => `Ready after ${seconds} s.`,
    empty: () => "There is nothing to read: type a text first.",
    long: (count, most) => `The text is too long: ${count} tokens, and this model reads ${most} at most.`,
    done: (read, written, seconds) => `${read} tokens read, ${written} written, ${seconds} s.`,
    failed: (why) => `That failed: ${why}`,
  },
  ko: {
    title: "이 안에서 번역하고, 어디를 보았는지 봅니다",
    lead: "모델 전체가 이 브라우저에서 돕니다. 쓰신 글은 밖으로 나가지 않습니다.",
    text: "글 (Enter로 번역)",
    run: "번역하기",
    look: "헤드마다 본 곳",
    other: "English",
    loading: () => "모델을 읽고 있습니다 …",
    ready: (seconds) => `${seconds}초 만에 준비되었습니다.`,
    empty: () => "읽을 글이 없습니다. 먼저 글을 써 주세요.",
    long: (count, most) => `글이 너무 깁니다. 토큰이 ${count}개인데, 이 모델은 ${most}개까지 읽습니다.`,
    done: (read, written, seconds) => `읽은 토큰 ${read}개, 쓴 토큰 ${written}개, ${seconds}초.`,
    failed: (why) => `실패했습니다: ${why}`,
  },
};

const byId = (id) => document.getElementById(id);
const state = { language: navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en", note: ["loading"] };
const seconds = (from) => ((performance.now() - from) / 1000).toFixed(2);

/** What cannot be translated, in words of the page: a name in WORDS and its values. */
class Refusal extends Error {
  constructor(...note) {
    super(note[0]);
    this.note = note;
  }
}

// --- the model --------------------------------------------------------------------------------------------------

const loaded = Promise.all([
  AutoTokenizer.from_pretrained("model"),
  AutoModelForSeq2SeqLM.from_pretrained("model", { dtype: "fp32", device: "wasm" }),
]);

/**
 * Translate a text.
 *
 * @returns Its translation; labels of the tokens read (S), of those that each row read and wrote (T); cross-attention
 *   as `shape` [L, H, T, S] and `weights`, a Float32Array.
 */
export async function translate(text) {
  const [tokenizer, model] = await loaded;
  if (!text.trim()) throw new Refusal("empty");
  const inputs = tokenizer(text);
  const [read, most] = [inputs.input_ids.dims[1], model.config.max_position_embeddings];
  if (read > most) throw new Refusal("long", read, most);
  const settings = { max_new_tokens: most - 1, num_beams: 1, do_sample: false };
  const output = await model.generate({ ...inputs, ...settings, return_dict_in_generate: true, output_attentions: true });
  const ids = output.sequences.tolist()[0];
  const names = labels(tokenizer, ids);
  return {
    translation: tokenizer.decode(ids, { skip_special_tokens: true }),
    source: labels(tokenizer, inputs.input_ids.tolist()[0]),
    reads: names.slice(0, -1),
    rows: names.slice(1),
    ...joined(output.cross_attentions),
  };
}

/** The tokens as text; a part of a letter is shown as its vocabulary writes it. */
function labels(tokenizer, ids) {
  return ids.map((id) => {
    const text = tokenizer.decode([id], { skip_special_tokens: false, clean_up_tokenization_spaces: false });
    return text.includes("\ufffd") ? tokenizer._tokenizer.id_to_token(Number(id)) : text;
  });
}

/** Join the weights of each step and layer, (1, H, 1, S), to [L, H, T, S]. */
function joined(steps) {
  const [L, T] = [steps[0].length, steps.length];
  const [, H, , S] = steps[0][0].dims;
  const weights = new Float32Array(L * H * T * S);
  steps.forEach((layers, t) =>
    layers.forEach(({ data }, l) => {
      for (let h = 0; h < H; h++) weights.set(data.subarray(h * S, (h + 1) * S), ((l * H + h) * T + t) * S);
    }),
  );
  return { shape: [L, H, T, S], weights };
}

// --- what look/page.py would have written into its page ---------------------------------------------------------

const SMALL = 64;
const count = (size) => Array.from({ length: size }, (_, i) => i);

function packed(array) {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let letters = "";
  for (const byte of bytes) letters += String.fromCharCode(byte);
  return btoa(letters);
}

/** Weights in [0, 1] as 16-bit floats (IEEE 754). */
function halves(weights) {
  return Uint16Array.from(weights, (weight) => {
    if (weight < 2 ** -14) return Math.round(weight * 2 ** 24);
    const exponent = Math.floor(Math.log2(weight));
    return ((exponent + 15) << 10) + Math.round((weight / 2 ** exponent - 1) * 1024);
  });
}

/** One head (T, S) averaged over equal blocks, at most SMALL a side: [rows, columns, means]. */
function smallPicture(weights, T, S) {
  const [height, width] = [Math.ceil(T / SMALL), Math.ceil(S / SMALL)];
  const [rows, columns] = [Math.ceil(T / height), Math.ceil(S / width)];
  const means = new Float32Array(rows * columns);
  const size = (at, block, all) => Math.min(block, all - at * block);
  for (let t = 0; t < T; t++)
    for (let s = 0; s < S; s++) {
      const [row, column] = [Math.floor(t / height), Math.floor(s / width)];
      means[row * columns + column] += weights[t * S + s] / (size(row, height, T) * size(column, width, S));
    }
  return [rows, columns, means];
}

/** The view of look/view.py with one map, as `page_data` of look/page.py packs it; every head is exact. */
function viewOf(text, { translation, source, reads, rows, shape, weights }) {
  const [L, H, T, S] = shape;
  const heads = count(L * H).map((at) => weights.subarray(at * T * S, (at + 1) * T * S));
  const small = heads.map((head) => smallPicture(head, T, S));
  const strongest = Float32Array.from(small, ([, , means]) => means.reduce((most, mean) => Math.max(most, mean), 0));
  const bytes = small.flatMap(([, , means], at) => Array.from(means, (mean) => Math.round(255 * Math.sqrt(mean / (strongest[at] || 1)))));
  const sums = heads.flatMap((head) => count(T).map((t) => head.subarray(t * S, (t + 1) * S).reduce((sum, weight) => sum + weight, 0)));
  const map = {
    kind: "cross", rows, columns: source, reads, layers: count(L), heads: count(H), cells: [T, S],
    small: { cells: small[0].slice(0, 2), bytes: packed(Uint8Array.from(bytes)), strongest: packed(strongest) },
    sums: packed(Float32Array.from(sums)),
    hidden: packed(new Uint8Array(T * S)), // one text alone has no padding
    exact: heads.map((head, at) => ({ layer: Math.floor(at / H), head: at % H, weights: packed(halves(head)) })),
  };
  return { model: "transformers.js", architecture: "", text, target: translation, maps: [map], numbers: [], temperatures: [], labels: [], steps: [], search: null };
}

// --- the page ---------------------------------------------------------------------------------------------------

const template = fetch(beside("look.html")).then((answer) => answer.text());

async function show(view) {
  const data = JSON.stringify(view).replaceAll("<", "\\u003c"); // nothing in it can end its element
  const [before, after] = (await template).split(/(?<=<script type="application\/json" id="view">).*?(?=<\/script>)/s);
  const frame = byId("look");
  frame.hidden = false;
  frame.onload = () => {
    speakFrame();
    const { body } = frame.contentDocument;
    new ResizeObserver(() => (frame.style.height = `${body.scrollHeight + 1}px`)).observe(body);
  };
  frame.srcdoc = before + data + after;
}

/** Let the page of look say its words in the language of this page. */
const speakFrame = () => byId("look").contentDocument?.querySelector(`#languages [data-name=${state.language}]`)?.click();

function speak(note = state.note) {
  state.note = note;
  const words = WORDS[state.language];
  document.documentElement.lang = state.language;
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = words[node.dataset.say];
  byId("language").textContent = words.other;
  byId("look").title = words.look;
  byId("note").textContent = words[note[0]](...note.slice(1));
}

async function answer() {
  const text = byId("text").value;
  const from = performance.now();
  byId("run").disabled = true;
  try {
    const seen = await translate(text);
    byId("answer").textContent = seen.translation;
    speak(["done", seen.source.length, seen.rows.length, seconds(from)]);
    await show(viewOf(text, seen));
  } catch (error) {
    byId("answer").textContent = "";
    byId("look").hidden = true;
    speak(error instanceof Refusal ? error.note : ["failed", error.message]);
  }
  byId("run").disabled = false;
}

byId("language").onclick = () => {
  state.language = state.language === "ko" ? "en" : "ko";
  speak();
  speakFrame();
};
byId("form").onsubmit = (event) => {
  event.preventDefault();
  if (!byId("run").disabled) answer();
};
speak();
loaded.then(
  () => {
    speak(["ready", seconds(0)]);
    byId("run").disabled = false;
    document.documentElement.dataset.ready = "";
  },
  (error) => speak(["failed", error.message]),
);
