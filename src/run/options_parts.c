// SPDX-License-Identifier: GPL-2.0-or-later
/* Parsers of the options for the small devices that a PC may have. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/machine.h"
#include "run/options_int.h"

static int chardev_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const keys[] = { "id", "path", "host", "port", "server", "wait", "append", "reconnect", "size", "mux", "escape", "signal", "telnet", "fd",
					    "websocket", "tls-creds", "tls-authz", "tls-cert", "tls-key", "tls-ca" };
	struct target *t = opaque;

	if (!name)
		return conf_setf(t->c, val, e, "chardev.%u.kind", t->n);
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		if (!strcmp(name, keys[i]))
			/* "server" alone is server=on, as QEMU once had it. */
			return conf_setf(t->c, val ? val : "on", e, "chardev.%u.%s", t->n, keys[i]);
	return err_set(e, -EINVAL, "'%.40s' is not one of id=ID, path=PATH, host=HOST, port=PORT, server=on|off, wait=on|off, reconnect=SECONDS, "
		       "append=on|off, size=BYTES, mux=on|off, escape=N, signal=on|off, telnet=on|off, fd=N, websocket=on|off, tls-creds=ID, tls-authz=ID, "
		       "tls-cert=FILE, tls-key=FILE, tls-ca=FILE", name);
}

int parse_chardev(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c, .n = st->n_chardevs++ };

	return each_part(val, chardev_part, &t, e);
}

static int port_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_setf(t->c, !strncmp(val, "name=", 5) ? val + 5 : val, e, "port.%u.name", t->n);
	if (val && (!strcmp(name, "chardev") || !strcmp(name, "id")))
		return conf_setf(t->c, val, e, "port.%u.%s", t->n, name);
	if (!strcmp(name, "console"))
		return conf_setf(t->c, val ? val : "on", e, "port.%u.console", t->n);
	return err_set(e, -EINVAL, "'%.40s' is not chardev=ID, id=ID or console=on|off", name);
}

int parse_port(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c, .n = st->n_ports++ };

	return each_part(val, port_part, &t, e);
}

int parse_input(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "input.%u", st->n_inputs++);
}

static int tpm_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_set(t->c, "tpm", !strcmp(val, "on") ? "crb" : val, e);
	if (val && !strcmp(name, "socket"))
		return conf_set(t->c, "tpm-socket", val, e);
	if (val && !strcmp(name, "end"))
		return conf_set(t->c, "tpm-end", val, e);
	if (val && !strcmp(name, "state"))
		return conf_set(t->c, "tpm-state", val, e);
	return err_set(e, -EINVAL, "'%.40s' is not socket=PATH, end=on or state=FOLDER", name);
}

int parse_tpm(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, tpm_part, &t, e);
}

static int watchdog_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_set(t->c, "watchdog", val, e);
	if (val && !strcmp(name, "action"))
		return conf_set(t->c, "watchdog-action", val, e);
	return err_set(e, -EINVAL, "'%.40s' is not action=reset|shutdown|poweroff|pause|debug|none|inject-nmi", name);
}

int parse_watchdog(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, watchdog_part, &t, e);
}

int parse_smbios(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "smbios.%u", st->n_smbios++);
}

/* "base=" may stand in front, as QEMU has it. */
int parse_rtc(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_set(c, "rtc", strncmp(val, "base=", 5) ? val : val + 5, e);
}

int parse_serial(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "serial.%u", st->n_serials++);
}

static int share_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const keys[] = { "tag", "security-model", "readonly", "multidevs", "writeout", "fmode", "dmode", "server", "reconnect",
					    "num-queues", "queue-size" };
	struct target *t = opaque;

	if (!name && !strncmp(val, "virtiofs=", 9))
		return conf_setf(t->c, val + 9, e, "share.%u.virtiofs", t->n);
	if (!name)
		return conf_setf(t->c, val, e, "share.%u.path", t->n);
	if (!strcmp(name, "readonly") || !strcmp(name, "ro"))
		return conf_setf(t->c, val ? val : "on", e, "share.%u.readonly", t->n);
	for (unsigned i = 0; val && i < ARRAY_LEN(keys); i++)
		if (!strcmp(name, keys[i]))
			return conf_setf(t->c, val, e, "share.%u.%s", t->n, name);
	return err_set(e, -EINVAL, "'%.40s' is not one of tag=TAG, readonly, security-model=none|passthrough|mapped-xattr|mapped-file, "
		       "multidevs=remap|warn|forbid, writeout=immediate, fmode=MODE, dmode=MODE, server=on, reconnect=SECONDS, num-queues=N, queue-size=N (a comma in a folder's name is written twice)", name);
}

int parse_share(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c, .n = st->n_shares++ };

	return each_part(val, share_part, &t, e);
}

static int vhost_disk_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const keys[] = { "server", "reconnect", "num-queues", "queue-size", "bootindex", "bus" };
	struct target *t = opaque;

	if (!name)
		return conf_setf(t->c, val, e, "vhost-disk.%u.path", t->n);
	for (unsigned i = 0; val && i < ARRAY_LEN(keys); i++)
		if (!strcmp(name, keys[i]))
			return conf_setf(t->c, val, e, "vhost-disk.%u.%s", t->n, name);
	return err_set(e, -EINVAL, "'%.40s' is not one of server=on|off, reconnect=SECONDS, num-queues=N, queue-size=N, bootindex=N, bus=ID", name);
}

int parse_vhost_disk(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c, .n = st->n_vhost_disks++ };

	return each_part(val, vhost_disk_part, &t, e);
}

/* All parts have names; "on" is the word for none of them. */
static int vsock_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name && !strncmp(val, "cid=", 4))
		return conf_set(t->c, "vsock.cid", val + 4, e);
	if (!name && !strncmp(val, "path=", 5))
		return conf_set(t->c, "vsock.path", val + 5, e);
	if (!name && !strcmp(val, "on"))
		return conf_set(t->c, "vsock.path", "", e);
	if (name && val && (!strcmp(name, "cid") || !strcmp(name, "path")))
		return conf_setf(t->c, val, e, "vsock.%s", name);
	return err_set(e, -EINVAL, "'%.40s' is not on, cid=N or path=PATH", name ? name : val);
}

int parse_vsock(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, vsock_part, &t, e);
}

static int root_port_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_setf(t->c, !strncmp(val, "id=", 3) ? val + 3 : val, e, "root-port.%u.id", t->n);
	if (val && !strcmp(name, "slot"))
		return conf_setf(t->c, val, e, "root-port.%u.slot", t->n);
	return err_set(e, -EINVAL, "'%.40s' is not slot=N", name);
}

int parse_root_port(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c, .n = st->n_root_ports++ };

	return each_part(val, root_port_part, &t, e);
}

static int vcpu_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name) {
		char *end;

		errno = 0;
		t->n = (unsigned)strtoul(val, &end, 10);
		if (*end || end == val || errno || *val == '-' || t->n >= MACHINE_MAX_VCPUS)
			return err_set(e, -EINVAL, "'%.40s' is not the number of a CPU, 0 to %d", val, MACHINE_MAX_VCPUS - 1);
		return conf_setf(t->c, "on", e, "vcpu.%u.present", t->n);
	}
	if (val && (!strcmp(name, "id") || !strcmp(name, "present")))
		return conf_setf(t->c, val, e, "vcpu.%u.%s", t->n, name);
	return err_set(e, -EINVAL, "'%.40s' is not id=ID or present=on|off", name);
}

int parse_vcpu(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, vcpu_part, &t, e);
}

/* All parts have names, the first, too. */
static int topology_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const keys[] = { "sockets", "dies", "cores", "threads" };
	struct target *t = opaque;

	for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
		size_t n = strlen(keys[i]);

		if (name && val && !strcmp(name, keys[i]))
			return conf_setf(t->c, val, e, "topology.%s", name);
		if (!name && !strncmp(val, keys[i], n) && val[n] == '=')
			return conf_setf(t->c, val + n + 1, e, "topology.%s", keys[i]);
	}
	return err_set(e, -EINVAL, "'%.40s' is not one of sockets=N, dies=N, cores=N, threads=N", name ? name : val);
}

int parse_topology(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, topology_part, &t, e);
}

/* "1:20": how far it is to node 1. */
static int node_distance(struct target *t, const char *val, struct err *e)
{
	const char *colon = strchr(val, ':');
	char *end;
	unsigned long to = strtoul(val, &end, 10);

	if (!colon || end != colon || end == val || *val == '-' || to > 255)
		return err_set(e, -EINVAL, "'%.40s' is not NODE:DISTANCE such as 1:20", val);
	return conf_setf(t->c, colon + 1, e, "numa.%u.distance.%lu", t->n, to);
}

/* Repeated cpus= add up. */
static int node_list(struct target *t, const char *name, const char *val, struct err *e)
{
	char key[64], *both;
	const char *old;
	int ret;

	snprintf(key, sizeof(key), "numa.%u.%s", t->n, name);
	old = conf_get(t->c, key);
	if (!old)
		return conf_set(t->c, key, val, e);
	if (asprintf(&both, "%s,%s", old, val) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	ret = conf_set(t->c, key, both, e);
	free(both);
	return ret;
}

static int numa_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return !strcmp(val, "node") ? conf_setf(t->c, "on", e, "numa.%u.node", t->n) : err_set(e, -EINVAL, "'%.40s' is not node", val);
	if (val && (!strcmp(name, "cpus") || !strcmp(name, "host-nodes")))
		return node_list(t, name, val, e);
	if (val && (!strcmp(name, "memory") || !strcmp(name, "policy")))
		return conf_setf(t->c, val, e, "numa.%u.%s", t->n, name);
	if (val && !strcmp(name, "distance"))
		return node_distance(t, val, e);
	return err_set(e, -EINVAL, "'%.40s' is not one of cpus=LIST, memory=SIZE, distance=NODE:DISTANCE, host-nodes=LIST, policy=bind|preferred|interleave", name);
}

int parse_numa(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c, .n = st->n_nodes++ };

	return each_part(val, numa_part, &t, e);
}

/* All parts have names, the first, too. */
static int backing_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const keys[] = { "host-nodes", "policy", "prealloc", "lock", "merge" };
	struct target *t = opaque;

	for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
		size_t n = strlen(keys[i]);

		if (name && val && !strcmp(name, keys[i]))
			return conf_setf(t->c, val, e, "backing.%s", name);
		if (!name && !strncmp(val, keys[i], n) && val[n] == '=')
			return conf_setf(t->c, val + n + 1, e, "backing.%s", keys[i]);
	}
	return err_set(e, -EINVAL, "'%.40s' is not one of host-nodes=LIST, policy=bind|preferred|interleave, prealloc=on|off, lock=on|off, merge=on|off", name ? name : val);
}

int parse_backing(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, backing_part, &t, e);
}

static int memory_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_set(t->c, "memory", val, e);
	if (val && (!strcmp(name, "max") || !strcmp(name, "maxmem")))	/* QEMU's name, too */
		return conf_set(t->c, "memory-max", val, e);
	return err_set(e, -EINVAL, "'%.40s' is not max=SIZE", name);
}

int parse_memory(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, memory_part, &t, e);
}

static int memory_device_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const keys[] = { "id", "size", "block-size", "requested-size", "node", "memdev" };
	struct target *t = opaque;

	if (!name)
		return conf_setf(t->c, !strncmp(val, "id=", 3) ? val + 3 : val, e, "memory-device.%u.id", t->n);
	for (unsigned i = 0; val && i < ARRAY_LEN(keys); i++)
		if (!strcmp(name, keys[i]))
			return conf_setf(t->c, val, e, "memory-device.%u.%s", t->n, name);
	return err_set(e, -EINVAL, "'%.40s' is not one of size=SIZE, block-size=SIZE, requested-size=SIZE, node=N, memdev=ID", name);
}

int parse_memory_device(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c, .n = st->n_memories++ };

	return each_part(val, memory_device_part, &t, e);
}
