// Run pipelines of transformers.js over folders of models: a job in JSON in, what they answer out.
//
//   node run.mjs '{"modules": FOLDER, "jobs": [{"folder": PATH, "task": NAME, "texts": [...], "options": {...}}]}'

import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const { modules, jobs } = JSON.parse(process.argv[2]);
const entry = createRequire(path.join(modules, "x.js")).resolve("@huggingface/transformers");
const { env, pipeline, Tensor } = await import(pathToFileURL(entry));
env.allowRemoteModels = false; // what is not in the folder is an error, not a download

const plain = (value) =>
  value instanceof Tensor ? value.tolist() : Array.isArray(value) ? value.map(plain) : value;

const answers = [];
for (const { folder, task, texts, options } of jobs) {
  env.localModelPath = path.dirname(folder);
  const pipe = await pipeline(task, path.basename(folder), { dtype: "fp32", device: "cpu" });
  answers.push(plain(await pipe(texts, options)));
  await pipe.dispose();
}
console.log(JSON.stringify(answers));
