// Prints what the page answered, as any program would for ../conformance.py: answer.mjs ANSWERS.json BUNDLE FEATURES.npy --duration S ...
import { readFile } from "node:fs/promises";

const [answers, bundle, features, ...options] = process.argv.slice(2);
const given = (name) => options[options.indexOf(`--${name}`) + 1];
const key = [bundle, features, Number(given("duration")), given("precision")].join("\n");
const answer = JSON.parse(await readFile(answers, "utf-8"))[key];
if (answer === undefined) throw new Error(`the page was not asked: ${key}`);
if (answer.error !== undefined) {
  console.error(answer.error);
  process.exitCode = 1;
} else {
  console.log(answer.json);
  if (options.includes("--repeat")) console.error(`milliseconds: ${answer.milliseconds}`);
}
