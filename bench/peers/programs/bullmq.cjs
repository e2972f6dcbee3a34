// BullMQ on Redis: one worker process, finished jobs kept.
const { FlowProducer, Queue, QueueEvents } = require("bullmq");
const { answer, batches } = require("./asked.cjs");

const connection = { path: process.env.PEER_STORE, maxRetriesPerRequest: null };
const queue = new Queue("bench", { connection });
const events = new QueueEvents("bench", { connection });
const flows = new FlowProducer({ connection });

/** Return a promise that is kept once so many jobs have completed. */
function completed(count) {
  return new Promise((keep) => {
    const seen = () => {
      count -= 1;
      if (count === 0) {
        events.off("completed", seen);
        keep();
      }
    };
    events.on("completed", seen);
  });
}

async function batched(runs) {
  const before = await queue.getCompletedCount();
  const began = performance.now();
  const over = completed(runs);
  for (const size of batches(runs)) await queue.addBulk(Array.from({ length: size }, () => ({ name: "nothing", data: {} })));
  await over;
  const took = (performance.now() - began) / 1000;
  if ((await queue.getCompletedCount()) - before !== runs) throw new Error("some jobs did not complete");
  return took;
}

async function one_at_a_time(runs) {
  const took = [];
  for (let run = 0; run < runs; run += 1) {
    const began = performance.now();
    const job = await queue.add("nothing", {});
    await job.waitUntilFinished(events);
    took.push(performance.now() - began);
  }
  return took;
}

/** A flow: each job is the parent of the one before it, so the innermost runs first. */
async function chain(steps) {
  const step = { name: "step", queueName: "bench", data: {} };
  let flow = { ...step };
  for (let count = 1; count < steps; count += 1) flow = { ...step, children: [flow] };
  const began = performance.now();
  const { job } = await flows.add(flow);
  await job.waitUntilFinished(events);
  return (performance.now() - began) / 1000;
}

events.waitUntilReady().then(() => answer({ batched, one_at_a_time, chain }));
