// A BullMQ worker of one process, 100 jobs at once.
const { Worker } = require("bullmq");

const connection = { path: process.env.PEER_STORE, maxRetriesPerRequest: null };
new Worker("bench", async () => 1, { connection, concurrency: 100 });
