// Counts in Redis until its input is closed. What it prints: see ../README.md.
"use strict";

const fs = require("node:fs");
const { setTimeout: sleep } = require("node:timers/promises");
const Redis = require("ioredis");

const env = process.env;
const seconds = process.argv[2];
const redis = new Redis.Cluster(env.CACHESIM_REDIS_NODES.split(","), {
  dnsLookup: (address, callback) => callback(null, address),
  redisOptions: {
    username: env.CACHESIM_REDIS_USERNAME,
    password: fs.readFileSync(env.CACHESIM_REDIS_PASSWORD_FILE, "utf8"),
    tls: { ca: fs.readFileSync(env.CACHESIM_CA_FILE) },
    socketTimeout: seconds && 1000 * seconds, // undefined: none
  },
});

async function main() {
  let n = 0;
  let failed = false;
  let stop = false;
  process.stdin.on("end", () => (stop = true)).resume();

  await redis.ping();
  console.log("ready");
  let accepted = Date.now();
  while (!stop) {
    try {
      await redis.set("counter", n + 1);
      n += 1;
      const gap = Date.now() - accepted;
      if (failed || gap > 300) console.log(`recovered ${gap}`);
      accepted += gap;
      failed = false;
    } catch (error) {
      if (!failed) console.log(`failed ${error}`);
      failed = true;
    }
    await sleep(20);
  }
  const found = await redis.get("counter");
  if (found === String(n)) {
    console.log(`done ${n}`);
  } else {
    console.log(`lost ${n}, found ${found}`);
    process.exitCode = 1;
  }
  redis.disconnect();
}

main();
