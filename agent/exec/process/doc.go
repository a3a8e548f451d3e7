// Package process runs tasks as native processes. It is the executor that an
// agent has without any other software on its machine. Linux 5.10 or newer.
//
// # A task and its parent
//
// Each task runs under a small parent of its own: the agent's binary, executed
// again (IsParent, ParentMain), with 2 to 3 MB of memory of its own. The parent
// is not the agent's child in any way that matters: it has its own session,
// and lives on when the agent is stopped or killed. It
//
//   - starts the process as leader of a session and process group of its own,
//   - writes what the process prints to size-bounded log files,
//   - stops it when asked: stop delay, stop signal to the process group, grace,
//     then SIGKILL to everything,
//   - is the child subreaper of all that the process starts: a daemon that
//     forked twice and left its session still is the parent's descendant. When
//     the process ends all of it is killed, and the parent ends last,
//   - leaves exit code and time on disk.
//
// The agent learns of the end through a pidfd of the parent: at once, without
// polling, and whether it started the parent itself or found it after a restart.
//
// Should the parent be killed, the kernel kills the process with it
// (PR_SET_PDEATHSIG); the agent then finds what else the task left, by session
// and by SKEP_TASK_ID in its environment, kills it, and reports the task as
// failed. No task outlives its parent unnoticed.
//
// A service manager that kills a whole cgroup when it stops swarmd would kill the
// tasks too: with systemd, set KillMode=process.
//
// # The directory of a task
//
// Below Config.Dir each task has a directory, named by its ID:
//
//	lock           held by the parent while it lives: no task has two
//	run.json       pid and start time of parent and process (/proc/PID/stat, field 22),
//	               and during which boot of the machine
//	exit.json      how and when it ended
//	holdings.json  what it holds outside this directory: ports, files, cgroups
//	log.N          output, the highest N is the newest
//	parent.err     what the parent itself had to complain about
//	work           working directory of a task that names none
//
// A file is written beside and renamed, so that it is whole or absent.
//
// # What the process sees
//
// Its environment is PATH, HOME, LANG and TZ of the agent, then
//
//	SKEP_TASK_ID, SKEP_TASK_NAME, SKEP_TASK_SLOT,
//	SKEP_SERVICE_ID, SKEP_SERVICE_NAME, SKEP_NODE_ID, SKEP_NODE_HOSTNAME
//	SKEP_SECRETS_DIR, SKEP_CONFIGS_DIR   if it has any
//	PORT                                 number of its first port in host mode
//	PORT_<NAME>                          of each port with a name, in upper case
//	PORT_<target>                        of each port without a name
//	DOCKER_RESOURCE_<KIND>               its generic resources, "v1,v2"
//
// and last the environment of its spec. Characters of a name that cannot stand
// in a variable are underscores. A port whose published number is 0 gets a free
// one from 20000 to 29999, outside the range from which the kernel takes ports
// for connections; a published number is handed over as it is. Nothing is
// forwarded: the process is expected to listen on the number that it is told.
//
// Secrets and configs are files in a directory of mode 0700 on tmpfs (/dev/shm
// or /run) where there is one, else below the task's directory; the label
// skep.process.secrets of the node says which. They belong to the task's user
// and are removed when the task ends, also while the agent is away.
//
// # Health
//
// With a health check, Start returns when a probe has succeeded. Until then it
// probes often, but failing often is not failing sooner: the process has its
// start period and then retries × interval. Afterwards retries failures in a
// row make Wait stop the task and return "task: unhealthy process". The agent
// probes; while it is away nobody does.
//
// # Limits
//
// nano_cpus and memory_bytes of the task's limits are applied through cgroups
// (v2, else v1) where the agent may make them. Where not, tasks run without
// limits, and the label skep.process.limits of the node says why.
//
// # When it cannot
//
// What can be known before the start is an error of Prepare (the task is
// REJECTED): command not found or not executable, no such user, no such
// directory, a template that does not expand, a secret that is not there. Each
// says what, why, and what to do.
package process
