// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `lodge doctor`: what this host can do, one line per thing.
 *
 * The CPU engines are asked through lodge-vmm --probe, which runs code in them;
 * the rest is looked at here.  Only an engine that can run a guest, and a
 * lodge-vmm to start, are needed; everything else is advice.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/confine.h"
#include "run/opts.h"

static void say(const char *what, const char *mark, const char *text)
{
	printf("%-14s %-5s %s\n", what, mark, text);
}

/* Runs `vmm --probe` and gives its standard output. */
static FILE *probe_start(const char *vmm, pid_t *pid)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC))
		return NULL;
	fflush(stdout);
	*pid = fork();
	if (*pid == 0) {
		dup2(p[1], STDOUT_FILENO);
		execl(vmm, "lodge-vmm", "--probe", (char *)NULL);
		_exit(127);
	}
	close(p[1]);
	if (*pid < 0) {
		close(p[0]);
		return NULL;
	}
	return fdopen(p[0], "r");
}

static bool check_engines(const char *vmm)
{
	bool usable = false;
	char line[1024];
	pid_t pid;
	FILE *f = probe_start(vmm, &pid);

	while (f && fgets(line, sizeof(line), f)) {
		char name[32], *text;
		int can, good, at = 0;

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%31s %d %d %n", name, &can, &good, &at) != 3)
			continue;
		text = line + at;
		usable |= can;
		say(name, good ? "yes" : can ? "poor" : "no", text);
	}
	if (f) {
		fclose(f);
		waitpid(pid, NULL, 0);
	}
	if (!usable)
		say("CPU engine", "NO", "none can run a guest here");
	return usable;
}

static bool check_programs(void)
{
	char path[PATH_MAX];
	struct err e;

	if (find_vmm(path, sizeof(path), &e)) {
		say("lodge-vmm", "NO", e.msg);
		return false;
	}
	say("lodge-vmm", "yes", path);
	return check_engines(path);
}

static void check_memory(void)
{
	unsigned long long avail = 0;
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128], text[160];
	struct sysinfo si;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "MemAvailable: %llu", &avail);
	if (f)
		fclose(f);
	if (sysinfo(&si))
		return;
	snprintf(text, sizeof(text), "%llu MiB, of which %llu MiB are available",
		 (unsigned long long)si.totalram * si.mem_unit >> 20, avail >> 10);
	say("memory", avail > 300 * 1024 ? "yes" : "low", text);
	snprintf(text, sizeof(text), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
	say("host CPUs", "yes", text);
}

static void check_hugepages(void)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long n = 0;
	char text[128];

	if (!f || fscanf(f, "%lu", &n) != 1 || !n) {
		say("huge pages", "no", "none reserved; as root: echo 512 >/proc/sys/vm/nr_hugepages");
	} else {
		snprintf(text, sizeof(text), "%lu free pages of 2 MiB for --huge-pages 2m", n);
		say("huge pages", "yes", text);
	}
	if (f)
		fclose(f);
}

static void check_uring(void)
{
	char params[256] = { 0 };	/* at least sizeof(struct io_uring_params), all zero */
	long fd = syscall(SYS_io_uring_setup, 1, params);

	if (fd >= 0) {
		close((int)fd);
		say("io_uring", "yes", "disks use it");
	} else {
		char text[200];

		snprintf(text, sizeof(text), "%s; disks use threads instead, which is a little slower", strerror(errno));
		say("io_uring", "no", text);
	}
}

static void check_tap(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	char text[256];

	if (fd >= 0) {
		close(fd);
		say("tap", "yes", "/dev/net/tun opens; making an interface needs CAP_NET_ADMIN or a prepared one");
		return;
	}
	snprintf(text, sizeof(text), "/dev/net/tun: %s; --net user works without", strerror(errno));
	say("tap", "no", text);
}

static void check_sandbox(void)
{
	struct err e = { "" };
	int ret = confine_self_test(&e);

	say("sandbox", ret ? "no" : "yes", ret ? e.msg : "threads that run the guest can open, connect to and start nothing");
}

static void check_limits(void)
{
	struct rlimit files, as, memlock;
	char text[200];

	if (getrlimit(RLIMIT_NOFILE, &files) || getrlimit(RLIMIT_AS, &as) || getrlimit(RLIMIT_MEMLOCK, &memlock))
		return;
	snprintf(text, sizeof(text), "%llu open files", (unsigned long long)files.rlim_cur);
	say("limits", files.rlim_cur >= 256 ? "yes" : "low", text);
	if (as.rlim_cur != RLIM_INFINITY) {
		snprintf(text, sizeof(text), "address space limited to %llu MiB (ulimit -v): a guest's memory must fit",
			 (unsigned long long)as.rlim_cur >> 20);
		say("limits", "low", text);
	}
}

static bool check_memfd(void)
{
	int fd = memfd_create("lodge-doctor", MFD_CLOEXEC);

	if (fd < 0) {
		say("memfd", "NO", "memfd_create is blocked; guest memory cannot be made");
		return false;
	}
	close(fd);
	return true;
}

int doctor_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	bool ok;
	int ret = opts_alone(v, argc, argv, &st);

	if (ret >= 0)
		return ret;
	ok = check_programs();
	ok &= check_memfd();
	check_memory();
	check_hugepages();
	check_uring();
	check_tap();
	check_sandbox();
	check_limits();
	printf("%s\n", ok ? "This host can run guests." : "This host cannot run a guest; the lines marked NO say why.");
	return ok ? 0 : 1;
}
