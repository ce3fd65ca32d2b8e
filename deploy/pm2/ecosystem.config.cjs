// refreshd under PM2: `pm2 start deploy/pm2/ecosystem.config.cjs`; docs/install.md has the steps.
// REFRESHD_VENV: the virtual environment, else .venv of this clone. REFRESHD_CONFIG: else config.toml of this clone.
const path = require("node:path");
const root = path.resolve(__dirname, "../..");
const venv = process.env.REFRESHD_VENV || path.join(root, ".venv");
const config = process.env.REFRESHD_CONFIG || path.join(root, "config.toml");

module.exports = {
  apps: [
    {
      name: "refreshd",
      interpreter: path.join(venv, "bin/python"),
      script: path.join(venv, "bin/refreshd"),
      args: ["--config", config, "run"],
      cwd: path.dirname(config),
      exec_mode: "fork", // one process for one state directory; a replica is an app with a config of its own
      instances: 1,
      watch: false,

      wait_ready: true, // the daemon says so itself, once its journal is open and its port listens
      listen_timeout: 60000,
      kill_timeout: 60000, // above refresh.drain (45 s): PM2 must not kill what is being recorded
      treekill: false, // an embedded mongod is stopped by the daemon, after its drain

      // 78: the configuration is wrong; 2: these arguments are. Neither heals by restarting. 75 does: another process
      // holds the port or the state directory, say a copy that outlived PM2; once that one ends, this one takes over.
      stop_exit_codes: [2, 78],
      exp_backoff_restart_delay: 200, // ms, then half as much more each time, at most 15 s
      max_memory_restart: "768M", // 90 MB in use; checked every 30 s only, so it ends leaks and not bursts

      merge_logs: true, // JSON lines, with their own time; docs/install.md says how to rotate them
      time: false,
    },
  ],
};
