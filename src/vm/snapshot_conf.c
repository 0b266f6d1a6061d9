// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Configurations of saved VMs: which keys make the machine, and so are saved,
 * and which belong to one run of it, and so may be given with --from-snapshot.
 */
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "vm/snapshot.h"

#define GIVEN 1		/* may be given anew */
#define KEPT 2		/* is saved */
#define PATH 4		/* names a file, maybe behind "file:" */
#define WORDS 8		/* or is one of a few words */

/* The first that fits counts; keys without an entry are saved and cannot be given. */
static const struct {
	const char *key;
	unsigned what;
} keys[] = {
	{ "name", GIVEN }, { "accel", GIVEN }, { "accel-split", GIVEN }, { "qmp.*", GIVEN }, { "control", GIVEN }, { "paused", GIVEN }, { "stats", GIVEN },
	{ "start-ns", GIVEN }, { "from-snapshot", GIVEN }, { "incoming", 0 }, { "incoming-tls", 0 }, { "loadvm", 0 }, { "in-place", GIVEN }, { "perf-map", GIVEN }, { "dump-block", GIVEN }, { "pin", GIVEN }, { "cpu-weight", GIVEN }, { "cpu-quota", GIVEN }, { "backing.*", GIVEN }, { "numa.*.host-nodes", GIVEN }, { "numa.*.policy", GIVEN }, { "sandbox", GIVEN },
	{ "display", GIVEN }, { "vnc.*", GIVEN }, { "console", GIVEN }, { "net.*.fwd.*", GIVEN },
	{ "gdb", GIVEN }, { "pidfile", GIVEN }, { "daemonize", GIVEN }, { "ready-fd", GIVEN }, { "guest-agent", GIVEN | KEPT },
	{ "chardev.*.path", GIVEN | KEPT | PATH }, { "chardev.*", GIVEN | KEPT }, { "monitor.*", GIVEN | KEPT },
	{ "share.*.path", GIVEN | KEPT | PATH }, { "vsock.path", GIVEN },
	{ "vhost-disk.*.path", GIVEN | KEPT | PATH }, { "vhost-disk.*.server", GIVEN | KEPT }, { "vhost-disk.*.reconnect", GIVEN | KEPT },
	{ "no-reboot", GIVEN | KEPT }, { "shutdown-timeout", GIVEN | KEPT }, { "code-cache", GIVEN | KEPT },
	{ "direct", GIVEN | KEPT }, { "huge-pages", GIVEN }, { "vmgenid", GIVEN | KEPT }, { "watchdog-action", GIVEN | KEPT },
	{ "net.*.kind", GIVEN | KEPT }, { "net.*.if", GIVEN | KEPT }, { "net.*.restrict", GIVEN | KEPT },
	{ "net.*.tftp", GIVEN | KEPT | PATH },
	{ "user-data", KEPT | PATH }, { "meta-data", KEPT | PATH }, { "network-config", KEPT | PATH }, { "ssh-key.*", KEPT | PATH },
	{ "disk.*.size", 0 }, { "disk.*.key.*", KEPT | PATH }, { "kernel", KEPT | PATH }, { "initrd.*", KEPT | PATH },
	{ "firmware", KEPT | PATH | WORDS }, { "firmware-vars", 0 }, { "fw-cfg.*.file", KEPT | PATH }, { "debugcon", KEPT | PATH | WORDS },
	{ "net.*.romfile", KEPT | PATH }, { "vga-romfile", KEPT | PATH },
};

static unsigned what_of(const char *key)
{
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		if (!fnmatch(keys[i].key, key, 0))
			return keys[i].what;
	return KEPT;
}

static bool is_word(const char *text)
{
	static const char *const words[] = { "bios", "uefi", "stdio", "pty", "none" };

	for (unsigned i = 0; i < ARRAY_LEN(words); i++)
		if (!strcmp(text, words[i]))
			return true;
	return false;
}

/* malloc'ed; "", and what is no path, stays. */
static char *whole(const char *text)
{
	int before = strncmp(text, "file:", 5) ? 0 : 5;
	const char *path = text + before;
	char here[PATH_MAX], *out;

	if (!*path || *path == '/' || !strncmp(text, "fd:", 3) || !getcwd(here, sizeof(here)))
		return strdup(text);
	return asprintf(&out, "%.*s%s/%s", before, text, here, path) < 0 ? NULL : out;
}

static int set_whole(struct conf *c, const char *key, const char *path, struct err *e)
{
	char *text = whole(path);
	int ret = text ? conf_set(c, key, text, e) : err_set(e, -ENOMEM, "out of memory");

	free(text);
	return ret;
}

int vm_snapshot_own(const struct conf *c, struct conf **out, struct err *e)
{
	const char *key, *val;
	int ret = conf_new(out);

	if (ret)
		return err_set(e, ret, "out of memory");
	for (size_t i = 0; !ret && conf_nth(c, i, &key, &val); i++) {
		unsigned what = what_of(key);

		if (what & KEPT)
			ret = what & PATH && !(what & WORDS && is_word(val)) ? set_whole(*out, key, val, e) : conf_set(*out, key, val, e);
	}
	if (!ret)
		return 0;
	conf_free(*out);
	*out = NULL;
	return ret;
}

const char *const vm_snapshot_files[SNAPSHOT_FILES] = { SNAPSHOT_JSON, "config", "state", "memory" };
const char *const vm_snapshot_more_files[SNAPSHOT_MORE_FILES] = { SNAPSHOT_INDEX, "differences" };

int vm_snapshot_check(const char *dir, struct err *e)
{
	char path[PATH_MAX];

	for (unsigned i = 0; i < SNAPSHOT_FILES; i++) {
		if (snprintf(path, sizeof(path), "%s/%s", dir, vm_snapshot_files[i]) >= (int)sizeof(path))
			return err_set(e, -ENAMETOOLONG, "'%.60s...' is too long a path", dir);
		if (access(path, R_OK))
			return err_set(e, -errno, "'%s' is not a whole snapshot: %s: %s", dir, vm_snapshot_files[i], strerror(errno));
	}
	return 0;
}

/* "net.1.if" -> 1 */
static bool net_key(const char *key, unsigned *n)
{
	if (strncmp(key, "net.", 4))
		return false;
	*n = (unsigned)strtoul(key + 4, NULL, 10);
	return true;
}

static int give(struct conf *to, unsigned nets, const char *key, const char *val, struct err *e)
{
	const char *dot = strchr(key, '.');
	unsigned n;

	if (!(what_of(key) & GIVEN))
		return err_set(e, -EINVAL, "--from-snapshot: %s%.*s%s cannot be given with it, the saved machine has its own", "--",
			       (int)(dot ? (size_t)(dot - key) : strlen(key)), key, dot ? strrchr(key, '.') : "");
	if (net_key(key, &n) && n >= nets)
		return err_set(e, -EINVAL, "--net: the saved machine has %u network cards", nets);
	return !strcmp(key, "from-snapshot") ? set_whole(to, key, val, e) : conf_set(to, key, val, e);
}

static int read_own(const char *dir, struct conf *c, struct err *e)
{
	char path[PATH_MAX];
	FILE *f;
	int ret;

	snprintf(path, sizeof(path), "%s/config", dir);
	f = fopen(path, "re");
	if (!f)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	ret = conf_read(c, f, path, e);
	fclose(f);
	return ret;
}

int vm_snapshot_conf(const struct conf *given, struct conf **out, struct err *e)
{
	const char *dir = conf_get(given, "from-snapshot"), *key, *val;
	unsigned nets;
	struct conf *c;
	int ret = vm_snapshot_check(dir, e);

	if (!ret && conf_new(&c))
		ret = err_set(e, -ENOMEM, "out of memory");
	if (ret)
		return ret;
	ret = read_own(dir, c, e);
	nets = conf_list_len(c, "net");
	/* A copy is to know that it is one. */
	if (!ret && conf_get(c, "vmgenid") && strcmp(conf_get(c, "vmgenid"), "none") != 0)
		ret = conf_set(c, "vmgenid", "auto", e);
	for (size_t i = 0; !ret && conf_nth(given, i, &key, &val); i++)
		ret = give(c, nets, key, val, e);
	if (ret)
		conf_free(c);
	else
		*out = c;
	return ret;
}
