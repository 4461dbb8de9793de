// llama.cpp over one file: the ids of texts, and the log-probability of each next token after each of them.
// It keeps keys and values in fp32 here, and not in fp16 as it would by itself.
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { modules, file, texts, output } = JSON.parse(process.argv[2]);
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(`${modules}/node_modules/node-llama-cpp/dist/index.js`));
const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
const whole = { flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" };
const options = { temperature: 1, topK: 0, topP: 1, minP: 0 };
const answers = [];
for (const text of texts) {
  const ids = model.tokenize(text);
  const context = await model.createContext({ contextSize: model.trainContextSize, threads: 1, ...whole });
  const steps = await context.getSequence().controlledEvaluate(
    ids.map((id) => [id, { generateNext: { probabilities: true, options } }]));
  answers.push({ ids, logs: steps.map((step) => {
    const logs = [];
    for (const [token, probability] of step.next.probabilities) logs[token] = Math.log(probability);
    return logs;
  }) });
  await context.dispose();
}
writeFileSync(output, JSON.stringify(answers)); // a pipe may lose the end of it
process.exit(0);
