// refreshd under PM2. Copy this file into the service's own directory, outside the clone; docs/install.md has the steps.
// REFRESHD_VENV: the virtual environment, else program/ beside this file. REFRESHD_CONFIG: else config.toml beside it.
const path = require("node:path");
const venv = process.env.REFRESHD_VENV || path.join(__dirname, "program");
const config = process.env.REFRESHD_CONFIG || path.join(__dirname, "config.toml");

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
