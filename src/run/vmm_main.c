// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge-vmm: one process, one guest.
 *
 *   lodge-vmm --config-fd N     the configuration from an inherited descriptor
 *   lodge-vmm --config FILE     the same from a file, as `lodge run --dry-run` prints it
 *   lodge-vmm --probe           one line per CPU engine: name, usable, good, why | cure
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/log.h"
#include "base/stdfds.h"
#include "chardev/chardev.h"
#include "control/control.h"
#include "cpu/engine.h"
#include "vm/conf.h"
#include "vm/vm.h"

static const struct cpu_engine_ops *const engines[] = { &cpu_engine_kvm, &cpu_engine_interp, &cpu_engine_translate, NULL };

static int probe_all(void)
{
	for (const struct cpu_engine_ops *const *o = engines; *o; o++) {
		struct probe_report r = { 0 };
		int ret = (*o)->probe(&r);

		if (ret && !r.why[0])
			snprintf(r.why, sizeof(r.why), "its probe failed: %s", strerror(-ret));
		printf("%s %d %d %s%s%s\n", (*o)->name, r.usable, r.good, r.why, r.cure[0] ? " | " : "", r.cure);
	}
	return fflush(stdout) ? VM_EXIT_HOST : 0;
}

static int read_config(struct conf *c, const char *how, const char *what, struct err *e)
{
	bool by_fd = !strcmp(how, "--config-fd");
	FILE *f = by_fd ? fdopen(atoi(what), "r") : fopen(what, "re");
	int ret;

	if (!f)
		return err_set(e, -errno, "%s %s: %s", how, what, strerror(errno));
	ret = conf_read(c, f, by_fd ? "configuration" : what, e);
	fclose(f);
	return ret;
}

/* The process ID, in a file that another guest's is not: it is locked as long as this process lives. */
static int write_pidfile(const char *path, struct err *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644), ret = 0;
	char text[24];
	int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

	if (fd < 0)
		return err_set(e, -errno, "--pidfile %s: %s", path, strerror(errno));
	if (fcntl(fd, F_SETLK, &lock))
		ret = err_set(e, -errno, "--pidfile %s: another guest's, which runs", path);
	else if (ftruncate(fd, 0) || write(fd, text, (size_t)len) != len)
		ret = err_set(e, errno ? -errno : -EIO, "--pidfile %s: %s", path, strerror(errno));
	if (ret)
		close(fd);
	return ret ? ret : fd;
}

/*
 * Nothing that can fail is left: those who wait for that are told, and a daemon lets go of the terminal.  It stays in its folder, which the names of
 * kernels, for resets, and of sockets, to be removed, may be relative to.
 */
static int ready(const struct vm_config *cfg, struct err *e)
{
	int null;

	if (cfg->daemonize) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
			return err_set(e, -errno, "--daemonize: %s", strerror(errno));
		close(null);
	}
	if (cfg->ready_fd >= 0) {
		if (write(cfg->ready_fd, "", 1) != 1)
			return err_set(e, -errno, "ready-fd: %s", strerror(errno));
		close(cfg->ready_fd);
	}
	return 0;
}

/* The exit status. */
static int run_confined(struct vm *vm, const struct vm_config *cfg, struct err *e)
{
	confine_enter(CONFINE_MAIN);
	return vm_prepare(vm, e) || ready(cfg, e) ? VM_EXIT_HOST : vm_run(vm, e);
}

/* The guest runs once all is ready.  The exit status. */
static int start(struct vm *vm, struct control *ctl, const struct vm_config *cfg, struct err *e)
{
	int fd = -1, status = VM_EXIT_HOST, ret = control_wait(ctl, e);

	if (!ret && cfg->pidfile) {
		fd = write_pidfile(cfg->pidfile, e);
		ret = fd < 0 ? fd : 0;
	}
	if (!ret)
		status = run_confined(vm, cfg, e);
	else if (ret == -EINTR)
		status = VM_EXIT_KILLED;
	if (fd >= 0) {
		unlink(cfg->pidfile);
		close(fd);
	}
	return status;
}

/* What each thread will be held to.  This one is once everything that the command line names is open. */
static int confine(const struct vm_config *cfg, struct err *e)
{
	struct err why = { "" };

	if (cfg->sandbox == VM_SANDBOX_OFF || !confine_prepare(cfg->direct != CPU_DIRECT_OFF, &why))
		return 0;
	if (cfg->sandbox == VM_SANDBOX_ON)
		return err_set(e, -ENOTSUP, "--sandbox on: %s", why.msg);
	log_warn("the VM runs without a sandbox: %s", why.msg);
	return 0;
}

static int run_vm(const struct vm_config *cfg, struct err *e)
{
	int status = VM_EXIT_HOST, ret;
	struct control *ctl = NULL;
	struct vm *vm;

	vm_block_signals();
	if (confine(cfg, e) || vm_new(cfg, &vm, e))
		return status;
	ret = control_new(vm, &ctl, e);
	if (!ret)
		status = start(vm, ctl, cfg, e);
	control_free(ctl);
	vm_free(vm);
	chardev_stdio_restore();
	return status;
}

static int run_config(const char *how, const char *what)
{
	struct vm_config *cfg = calloc(1, sizeof(*cfg));
	struct conf *c = NULL;
	struct err e = { 0 };
	int status = VM_EXIT_HOST;

	if (!cfg || conf_new(&c))
		err_set(&e, -ENOMEM, "out of memory");
	else if (!read_config(c, how, what, &e) && !vm_config_from(c, cfg, &e))
		status = run_vm(cfg, &e);
	if (e.msg[0]) {
		chardev_stdio_restore();
		fprintf(stderr, "lodge: %s\n", e.msg);
	}
	if (status == VM_EXIT_HOST && cfg && cfg->exec)
		status = VM_EXIT_EXEC;
	conf_free(c);
	free(cfg);
	return status;
}

int main(int argc, char **argv)
{
	if (std_fds_open())
		return VM_EXIT_HOST;
	if (argc == 2 && !strcmp(argv[1], "--probe"))
		return probe_all();
	if (argc == 2 && !strcmp(argv[1], "--version")) {
		printf("lodge-vmm %s\n", LODGE_VERSION);
		return 0;
	}
	if (argc == 3 && (!strcmp(argv[1], "--config-fd") || !strcmp(argv[1], "--config")))
		return run_config(argv[1], argv[2]);
	fprintf(stderr, "usage: lodge-vmm --config FILE | --config-fd N | --probe | --version\n"
			"It is started by 'lodge run'; see lodge-vmm(8).\n");
	return VM_EXIT_HOST;
}
