package main

import (
	"crypto/fips140"

	"golang.org/x/sys/unix"
)

// protect keeps keys and messages in this process's memory from reaching a disk: no core dumps, no debugger of another process,
// no swap where the system allows. It tells what it could do.
func protect() map[string]string {
	host := map[string]string{"fips140": onOff(fips140.Enabled()), "core dumps": "off"}
	dump := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	limit := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if dump != nil || limit != nil {
		host["core dumps"] = "on: the system does not let us switch them off"
	}
	host["locked memory"] = lockMemory()
	return host
}

// lockMemory locks all memory, as it comes. Without the right to lock any amount, a lock would make the process fail later, when
// it wants more than it may have: then it is not tried.
func lockMemory() string {
	const how = "set LimitMEMLOCK=infinity in the unit, or give CAP_IPC_LOCK"
	if !mayLockAny() {
		return "no, so keys may reach the swap: " + how
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return "no, so keys may reach the swap: " + how
	}
	return "yes"
}

// mayLockAny says whether there is no bound: by the limit, or by a capability.
func mayLockAny() bool {
	var data [2]unix.CapUserData
	if unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0 {
		return true
	}
	var limit unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur == unix.RLIM_INFINITY
}
