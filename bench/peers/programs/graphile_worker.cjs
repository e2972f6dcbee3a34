// graphile-worker on PostgreSQL: the runner is in the program, as its manual shows first. A finished job's row is
// deleted, so no history is kept. Its settings for throughput: 10 jobs at once, a local queue of 500, and jobs that
// end together are written together.
const { EventEmitter } = require("node:events");
const { Logger, makeWorkerUtils, run } = require("graphile-worker");
const { Pool } = require("pg");
const { answer, batches } = require("./asked.cjs");

const pool = new Pool({ max: 20 }); // where the server is, libpq's variables tell
const events = new EventEmitter();
let utils;

/** Return a promise that is kept once so many jobs are complete in the database. */
function completed(count) {
  return new Promise((keep, fail) => {
    const seen = ({ error }) => {
      if (error) fail(error);
      count -= 1;
      if (count === 0) {
        events.off("job:complete", seen);
        keep();
      }
    };
    events.on("job:complete", seen);
  });
}

async function batched(runs) {
  const began = performance.now();
  const over = completed(runs);
  for (const size of batches(runs)) await utils.addJobs(Array.from({ length: size }, () => ({ identifier: "nothing" })));
  await over;
  return (performance.now() - began) / 1000;
}

async function one_at_a_time(runs) {
  const took = [];
  for (let count = 0; count < runs; count += 1) {
    const began = performance.now();
    const over = completed(1);
    await utils.addJob("nothing", {});
    await over;
    took.push(performance.now() - began);
  }
  return took;
}

async function main() {
  // Its log goes to the error stream, as standard output is for answers.
  const logger = new Logger(() => (level, message) => process.stderr.write(`${level}: ${message}\n`));
  await run({
    pgPool: pool,
    events,
    noHandleSignals: true,
    logger,
    taskList: { nothing: async () => {} },
    preset: { worker: { concurrentJobs: 10, localQueue: { size: 500 }, completeJobBatchDelay: 0 } },
  });
  utils = await makeWorkerUtils({ pgPool: pool, logger });
  await answer({ batched, one_at_a_time });
}

main();
