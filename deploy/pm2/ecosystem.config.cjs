// refreshd under PM2. Copy this file into the service's own directory, outside the clone; docs/install.md has the steps.
// REFRESHD_VENV names the virtual environment (default: program/ beside this file), REFRESHD_CONFIG the configuration
// (default: config.toml beside it). If REFRESHD_BACKUP_RECIPIENT is set (age1..., docs/backup.md), a second app writes a backup
// at each start and every night, into REFRESHD_BACKUP_DIR (default: backups/ beside this file). If REFRESHD_ACCESS_CONFIG is
// set, another app serves access tokens with that configuration (docs/access-service.md). If REFRESHD_CLEANUP_DEAD_FOR is set
// (180d, docs/operate.md), another one deletes tokens that have been dead for so long, at each start and every month.
const path = require("node:path");
const venv = process.env.REFRESHD_VENV || path.join(__dirname, "program");
const config = process.env.REFRESHD_CONFIG || path.join(__dirname, "config.toml");
const recipient = process.env.REFRESHD_BACKUP_RECIPIENT;
const accessConfig = process.env.REFRESHD_ACCESS_CONFIG;
const deadFor = process.env.REFRESHD_CLEANUP_DEAD_FOR;
const backups = process.env.REFRESHD_BACKUP_DIR || path.join(__dirname, "backups");

const backup = {
  name: "refreshd-backup",
  interpreter: path.join(venv, "bin/python"),
  script: path.join(venv, "bin/refreshd"),
  args: ["--config", config, "backup", "create", "--to", backups, "--recipient", recipient],
  cwd: path.dirname(config),
  exec_mode: "fork",
  instances: 1,
  watch: false,
  autorestart: false, // it ends by itself
  cron_restart: "30 2 * * *",
  merge_logs: true,
  time: false,
};

const cleanup = {
  name: "refreshd-cleanup",
  interpreter: path.join(venv, "bin/python"),
  script: path.join(venv, "bin/refreshd"),
  args: ["--config", config, "cleanup", "--dead-for", deadFor, "--yes", "--reason", "refreshd-cleanup"],
  cwd: path.dirname(config),
  exec_mode: "fork",
  instances: 1,
  watch: false,
  autorestart: false, // it ends by itself
  cron_restart: "30 3 1 * *",
  merge_logs: true,
  time: false,
};

const access = {
  name: "refreshd-access",
  interpreter: path.join(venv, "bin/python"),
  script: path.join(venv, "bin/refreshd"),
  args: ["--config", accessConfig, "serve"],
  cwd: accessConfig && path.dirname(accessConfig),
  exec_mode: "fork",
  instances: 1,
  watch: false,
  wait_ready: true, // it signals readiness when its port listens
  listen_timeout: 60000,
  kill_timeout: 30000, // above the 20 s after which the service ends itself, whatever hangs
  stop_exit_codes: [2, 78],
  exp_backoff_restart_delay: 200,
  max_memory_restart: "512M", // normal use is 150 MB with 20,000 tokens in memory
  merge_logs: true,
  time: false,
};

module.exports = {
  apps: [
    {
      name: "refreshd",
      interpreter: path.join(venv, "bin/python"),
      script: path.join(venv, "bin/refreshd"),
      args: ["--config", config, "run"],
      cwd: path.dirname(config),
      exec_mode: "fork", // one process per state directory; for a replica, add an app with its own configuration
      instances: 1,
      watch: false,

      wait_ready: true, // the daemon signals readiness when its journal is open and its port listens
      listen_timeout: 60000,
      kill_timeout: 90000, // above refresh.drain (45 s) and the 30 s after which a daemon that hangs ends itself
      treekill: false, // the daemon stops an embedded mongod after its drain

      // 78: the configuration is wrong. 2: these arguments are wrong. A restart fixes neither. It can fix 75: another
      // process holds the port or the state directory, such as a copy that outlived PM2. Once that ends, this one starts.
      stop_exit_codes: [2, 78],
      exp_backoff_restart_delay: 200, // ms, multiplied by 1.5 each time up to 15 s
      max_memory_restart: "768M", // normal use is 90 MB; PM2 checks every 30 s, so this stops leaks, not bursts

      merge_logs: true, // JSON lines with their own timestamps; docs/install.md describes log rotation
      time: false,
    },
    ...(recipient ? [backup] : []),
    ...(deadFor ? [cleanup] : []),
    ...(accessConfig ? [access] : []),
  ],
};
