// Lets a program be asked for its measures, as asked.py does: a line of JSON in, a line of JSON out.
const readline = require("node:readline");

const BATCH = 1000;

/** Return the sizes of the batches in which so many runs are sent. */
function batches(runs) {
  const found = [];
  for (let left = runs; left > 0; left -= BATCH) found.push(Math.min(BATCH, left));
  return found;
}

/** Say that the program is ready, and answer until the end of the input. */
async function answer(program) {
  process.stdout.write('"ready"\n');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, size] = JSON.parse(line);
    process.stdout.write(JSON.stringify(await program[name](size)) + "\n");
  }
  process.exit(0);
}

module.exports = { answer, batches };
