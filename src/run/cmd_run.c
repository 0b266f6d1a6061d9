// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `lodge run`: fills the configuration tree from the options, checks it, and
 * becomes lodge-vmm (start.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/place.h"
#include "run/on_restore.h"
#include "run/opts.h"
#include "run/start.h"
#include "vm/snapshot.h"

/* --guest-agent on: beside the control sockets' folders. */
static int place_agent(struct conf *c, struct err *e)
{
	const char *where = conf_get(c, "guest-agent"), *name = conf_get(c, "name");
	char root[128], path[256];
	int ret;

	if (!where || strcmp(where, "on"))
		return 0;
	name = name ? name : "guest";
	if (strchr(name, '/') || *name == '.')
		return err_set(e, -EINVAL, "--guest-agent: '%.60s' cannot be a file's name; give the socket's path", name);
	ret = ctl_place_root(root, sizeof(root), true, e);
	if (ret)
		return err_prefix(e, ret, "--guest-agent");
	snprintf(path, sizeof(path), "%s/%.64s.agent", root, name);
	return conf_set(c, "guest-agent", path, e);
}

static bool is_set_to(const struct conf *c, const char *key, const char *val)
{
	const char *is = conf_get(c, key);

	return is && !strcmp(is, val);
}

/* What firmware starts has its screen shown; kernels that are started directly, and guests that run a command, have none. */
static int set_display(struct conf *c, struct err *e)
{
	if (conf_get(c, "display") || conf_get(c, "kernel") || conf_get(c, "exec") || is_set_to(c, "vga", "none") ||
	    is_set_to(c, "machine", "micro") || is_set_to(c, "defaults", "qemu"))
		return 0;
	return conf_set(c, "display", "auto", e);
}

/* Without --net there is one user network.  A guest that is saved is to know when it is a copy, and cards of the root bus come and go; said here, so that machines that were saved without it stay as they were. */
static int set_defaults(struct conf *c, struct opt_state *st, struct err *e)
{
	int ret = st->n_nets ? 0 : conf_set(c, "net.0.kind", "user", e);

	if (!ret)
		ret = set_display(c, e);
	if (!ret && !conf_get(c, "vmgenid") && !is_set_to(c, "defaults", "qemu"))
		ret = conf_set(c, "vmgenid", "auto", e);
	if (!ret && !conf_get(c, "pci-hotplug") && !is_set_to(c, "machine", "micro") && !is_set_to(c, "defaults", "qemu"))
		ret = conf_set(c, "pci-hotplug", "on", e);
	return ret ? ret : place_agent(c, e);
}

/* The agent's socket is this guest's own, not the saved one's, which may still run. */
static int check_on_restore(struct conf *c, const struct conf *saved, const struct opt_state *st, struct err *e)
{
	if (!st->on_restore)
		return 0;
	if (!saved)
		return err_set(e, -EINVAL, "--on-restore belongs to --from-snapshot");
	if (!conf_get(saved, "agent-port"))
		return err_set(e, -EINVAL, "--on-restore: the saved guest has no port for an agent (--guest-agent on)");
	return conf_get(c, "paused") ? err_set(e, -EINVAL, "--on-restore: a guest that is to stand still (--paused) runs no command") : 0;
}

static int prepare(const struct verb *v, int argc, char **argv, struct conf **tree, struct opt_state *st, struct err *e)
{
	struct conf *c = *tree, *saved;
	int ret = opts_parse(v, argc, argv, c, st, e);

	if (ret || st->help)
		return ret;
	if (conf_get(c, "from-snapshot")) {
		if (st->on_restore && !conf_get(c, "guest-agent"))
			ret = conf_set(c, "guest-agent", "on", e);
		ret = ret ? ret : place_agent(c, e);
		ret = ret ? ret : vm_snapshot_conf(c, &saved, e);
		if (ret)
			return ret;
		conf_free(c);
		c = *tree = saved;
		ret = check_on_restore(c, saved, st, e);
		if (ret)
			return ret;
		/* What it shows itself on was saved; snapshots of before there was a choice say nothing, and had nothing. */
		if (conf_get(c, "vga"))
			ret = set_display(c, e);
	} else {
		ret = check_on_restore(c, NULL, st, e);
		ret = ret ? ret : set_defaults(c, st, e);
	}
	if (!ret)
		ret = start_place_vsock(c, e);
	return ret ? ret : start_check(c, e);
}

/* In the foreground this process becomes the VMM, and another sees to the command. */
static int start(struct conf *c, const struct opt_state *st, struct err *e)
{
	const char *socket = st->on_restore ? conf_get(c, "guest-agent") : NULL;
	int ret;

	if (socket && !is_set_to(c, "daemonize", "on")) {
		ret = on_restore_later(socket, st->on_restore, e);
		return ret ? ret : start_vmm(c, e);
	}
	ret = start_vmm(c, e);
	return ret || !socket ? ret : on_restore(socket, st->on_restore, 0, e);
}

int run_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	struct err e = { 0 };
	struct conf *c;
	bool exec;
	int ret;

	if (conf_new(&c)) {
		fprintf(stderr, "lodge: out of memory\n");
		return 1;
	}
	ret = prepare(v, argc, argv, &c, &st, &e);
	exec = conf_get(c, "exec");
	if (!ret && st.help)
		opts_help(v, stdout);
	else if (!ret && st.dry_run)
		ret = conf_dump(c, stdout);
	else if (!ret)
		ret = start(c, &st, &e);
	conf_free(c);
	if (ret > 0)
		return ret;
	if (ret)
		fprintf(stderr, "lodge: %s\n", e.msg[0] ? e.msg : strerror(-ret));
	return ret ? (exec ? 125 : 1) : 0;
}
