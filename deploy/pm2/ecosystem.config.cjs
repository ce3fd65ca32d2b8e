// refreshd under PM2: `pm2 start deploy/pm2/ecosystem.config.cjs`, from the directory that holds .venv.
const path = require("node:path");
const root = process.env.REFRESHD_HOME || path.resolve(__dirname, "../..");

module.exports = {
  apps: [
    {
      name: "refreshd",
      script: path.join(root, ".venv/bin/refreshd"),
      interpreter: "none",
      args: ["--config", process.env.REFRESHD_CONFIG || path.join(root, "config.toml"), "run"],
      cwd: root,
      exec_mode: "fork",
      instances: 1,
      wait_ready: true, // the daemon says so itself once its journal is open and its port listens
      listen_timeout: 30000,
      kill_timeout: 60000, // above refresh.drain (45 s): PM2 must not kill what is being recorded
      treekill: false, // an embedded mongod is stopped by the daemon, after its drain
      stop_exit_codes: [78], // a wrong configuration does not heal by restarting
      exp_backoff_restart_delay: 200,
    },
  ],
};
