// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The options of `lodge run` and `lodge doctor`.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/disk.h"
#include "run/options_int.h"
#include "vm/config.h"

int each_part(const char *text, part_fn fn, void *opaque, struct err *e)
{
	char *buf = malloc(strlen(text) + 1), *to;
	bool first = true;
	int ret = 0;

	if (!buf)
		return err_set(e, -ENOMEM, "out of memory");
	do {
		char *eq;

		for (to = buf; *text && (*text != ',' || text[1] == ','); text++) {
			if (*text == ',')
				text++;
			*to++ = *text;
		}
		*to = '\0';
		eq = first ? NULL : strchr(buf, '=');
		if (eq)
			*eq = '\0';
		ret = fn(opaque, first ? NULL : buf, first ? buf : eq ? eq + 1 : NULL, e);
		first = false;
	} while (!ret && *text++ == ',');
	free(buf);
	return ret;
}

/* Equal, with '_' as good as '-': QEMU's names have some of each. */
static bool same_word(const char *given, const char *key)
{
	while (*given && (*given == *key || (*given == '_' && *key == '-')))
		given++, key++;
	return !*given && !*key;
}

/* Where a key is, never what it is: a command line is there for all to read. */
static int disk_key(struct target *t, const char *kind, const char *val, struct err *e)
{
	char *text;
	int ret;

	if (asprintf(&text, "%s:%s", kind, val) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	ret = conf_setf(t->c, text, e, "disk.%u.key.%u", t->n, t->n_keys++);
	free(text);
	return ret;
}

static int disk_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const keys[] = {
		"node", "size", "if", "cdrom", "snapshot", "controller", "scsi-id", "lun", "ro", "serial", "cache", "aio", "format", "backing", "rerror", "werror", "iothread", "num-queues", "discard",
		"logical-block-size", "physical-block-size", "min-io-size", "opt-io-size", "discard-granularity", "bootindex", "bus", "slot", "id", "absent", "hotplugged",
	};
	struct target *t = opaque;
	struct blk_disk_opts trial = { 0 };
	int ret;

	if (!name && !strncmp(val, "node=", 5))
		return conf_setf(t->c, val + 5, e, "disk.%u.node", t->n);
	if (!name)			/* "": a drive without a medium */
		return *val ? conf_setf(t->c, val, e, "disk.%u.file", t->n) : 0;
	if (!strcmp(name, "ro") && (!val || !*val))
		return conf_setf(t->c, "on", e, "disk.%u.ro", t->n);
	if (val && (same_word(name, "key-file") || same_word(name, "key-fd")))
		return disk_key(t, name[5] == 'i' ? "file" : "fd", val, e);
	for (unsigned i = 0; val && i < ARRAY_LEN(keys); i++)
		if (same_word(name, keys[i]))
			return conf_setf(t->c, val, e, "disk.%u.%s", t->n, keys[i]);
	ret = val ? blk_disk_option(&trial, name, val, e) : -ENOENT;
	if (ret != -ENOENT)
		return ret ? ret : conf_setf(t->c, val, e, "disk.%u.%s", t->n, name);
	return err_set(e, -EINVAL, "'%.40s' is not one of size=N, if=virtio|scsi|nvme|ahci|usb|floppy, ro, format=FORMAT, snapshot=on, cdrom=on, serial=TEXT, "
		       "bootindex=N, cache=MODE, key-file=FILE, discard=unmap|ignore, iothread=on|off|NAME, id=ID and those for special needs in lodge-run(1) "
		       "(a comma in a file's name is written twice)", name);
}

static int parse_disk(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, 0, 0 };

	if (!*val)
		return err_set(e, -EINVAL, "the name of a file is missing");
	if (!strncmp(val, "vhost-user=", 11))
		return parse_vhost_disk(c, st, val + 11, e);
	t.n = st->n_disks++;
	return each_part(val, disk_part, &t, e);
}

static int parse_object(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "object.%u", st->n_objects++);
}

static int parse_blockdev(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "blockdev.%u", st->n_blockdevs++);
}

int run_operand(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return parse_disk(c, st, val, e);
}

static int boot_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	/* QEMU's short form: letters alone. */
	if (!name && *val && strspn(val, "acdn") == strlen(val))
		return conf_set(t->c, "boot-order", val, e);
	/* The first part has a name like the others here. */
	if (!name && !strncmp(val, "order=", 6))
		return conf_set(t->c, "boot-order", val + 6, e);
	if (!name && !strncmp(val, "menu=", 5))
		return conf_set(t->c, "boot-menu", val + 5, e);
	if (name && val && (!strcmp(name, "order") || !strcmp(name, "menu")))
		return conf_set(t->c, *name == 'o' ? "boot-order" : "boot-menu", val, e);
	return err_set(e, -EINVAL, "'%.40s' is not order=LETTERS or menu=on|off|MILLISECONDS", name ? name : val);
}

static int parse_boot(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, 0, 0, 0 };

	return each_part(val, boot_part, &t, e);
}

static int fw_cfg_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_setf(t->c, !strncmp(val, "name=", 5) ? val + 5 : val, e, "fw-cfg.%u.name", t->n);
	if (val && (!strcmp(name, "string") || !strcmp(name, "file")))
		return conf_setf(t->c, val, e, "fw-cfg.%u.%s", t->n, name);
	return err_set(e, -EINVAL, "'%.40s' is not string=TEXT or file=FILE", name);
}

static int parse_fw_cfg(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, st->n_fw_cfgs++, 0, 0 };

	return each_part(val, fw_cfg_part, &t, e);
}

/* A disk that is a CD: read only, on the SATA controller. */
static int parse_cdrom(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, st->n_disks++, 0 };
	int ret = conf_setf(c, "ahci", e, "disk.%u.if", t.n);

	if (!ret)
		ret = conf_setf(c, "on", e, "disk.%u.cdrom", t.n);
	return ret ? ret : each_part(val, disk_part, &t, e);
}

static int parse_floppy(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, st->n_disks++, 0 };
	int ret = conf_setf(c, "floppy", e, "disk.%u.if", t.n);

	return ret ? ret : each_part(val, disk_part, &t, e);
}

static int net_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const keys[] = {
		"mac", "model", "if", "queues", "tftp", "bootfile", "tftp-server-name", "hostname", "domainname", "dnssearch", "net", "host", "dns", "dhcpstart", "romfile", "rombar", "bootindex", "bus", "slot", "id", "netdev",
	};
	struct target *t = opaque;

	if (!name)
		return conf_setf(t->c, val, e, "net.%u.kind", t->n);
	if (val && !strcmp(name, "fwd"))
		return conf_setf(t->c, val, e, "net.%u.fwd.%u", t->n, t->n_fwd++);
	if (!strcmp(name, "restrict"))
		return conf_setf(t->c, val ? val : "on", e, "net.%u.restrict", t->n);
	for (unsigned i = 0; val && i < ARRAY_LEN(keys); i++)
		if (!strcmp(name, keys[i]))
			return conf_setf(t->c, val, e, "net.%u.%s", t->n, name);
	return err_set(e, -EINVAL, "'%.40s' is not one of fwd=tcp:HOSTPORT:GUESTPORT, model=virtio|e1000e, mac=M, if=NAME, queues=N, restrict, tftp=FOLDER, bootfile=NAME, "
		       "tftp-server-name=NAME, hostname=NAME, domainname=NAME, dnssearch=NAME, net=NETWORK/BITS, host=IP, dns=IP, dhcpstart=IP, romfile=FILE, rombar=on|off, bootindex=N, bus=PORT, slot=N, id=ID, netdev=ID", name);
}

static int parse_net(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, st->n_nets++, 0 };

	return each_part(val, net_part, &t, e);
}

static int accel_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_set(t->c, "accel", val, e);
	if (!strcmp(name, "split") && val)
		return conf_set(t->c, "accel-split", val, e);
	return err_set(e, -EINVAL, "'%.40s' is not split=on or split=off", name);
}

static int parse_accel(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, 0, 0 };

	return each_part(val, accel_part, &t, e);
}

static int vga_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_set(t->c, "vga", val, e);
	if (!strcmp(name, "vram") && val)
		return conf_set(t->c, "vga-memory", val, e);
	if ((!strcmp(name, "outputs") || !strcmp(name, "romfile") || !strcmp(name, "rombar")) && val)
		return conf_setf(t->c, val, e, "vga-%s", name);
	return err_set(e, -EINVAL, "'%.40s' is not one of vram=SIZE, outputs=N, romfile=FILE, rombar=on|off", name);
}

static int parse_vga(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, 0, 0 };

	return each_part(val, vga_part, &t, e);
}

/* "vnc", "vnc=ADDRESS" and "none" come first. */
static int display_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;
	char *text;
	int ret;

	if (!name) {
		bool vnc = !strncmp(val, "vnc=", 4);

		t->n = !strcmp(val, "none");
		ret = conf_set(t->c, "display", vnc ? "vnc" : val, e);
		return ret || !vnc ? ret : conf_set(t->c, "vnc.listen", val + 4, e);
	}
	if (t->n)
		return err_set(e, -EINVAL, "'%.40s': nothing is said of a display that is not there (none)", name);
	if (val && !strcmp(name, "password") && !strcmp(val, "later"))
		return conf_set(t->c, "vnc.password", val, e);
	if (!strcmp(name, "read-only"))
		return conf_set(t->c, "vnc.read-only", val ? val : "on", e);
	if (val && (!strcmp(name, "websocket") || !strcmp(name, "tls") || !strcmp(name, "tls-cert") || !strcmp(name, "tls-key")))
		return conf_setf(t->c, val, e, "vnc.%s", name);
	for (unsigned view = 0; val && view < 2; view++) {
		const char *rest = view ? "view-password-" : "password-";

		if (strncmp(name, rest, strlen(rest)) || (strcmp(name + strlen(rest), "file") && strcmp(name + strlen(rest), "fd")))
			continue;
		if (asprintf(&text, "%s:%s", name + strlen(rest), val) < 0)
			return err_set(e, -ENOMEM, "out of memory");
		ret = conf_set(t->c, view ? "vnc.view-password" : "vnc.password", text, e);
		free(text);
		return ret;
	}
	return err_set(e, -EINVAL, "'%.40s' is not one of websocket=PORT, password-file=FILE, password-fd=N, password=later, view-password-file=FILE, "
		       "view-password-fd=N, read-only, tls=anon, tls-cert=FILE, tls-key=FILE", name);
}

static int parse_display(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, 0, 0 };

	return each_part(val, display_part, &t, e);
}

static int parse_initrd(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "initrd.%u", st->n_initrds++);
}

static int usb_part(void *opaque, const char *name, const char *val, struct err *e)
{
	static const char *const names[] = { "usb-kbd", "usb-mouse", "usb-tablet" };
	struct target *t = opaque;

	if (name && val && !strcmp(name, "id"))
		return conf_setf(t->c, val, e, "usb.%u.id", t->n);
	if (name)
		return err_set(e, -EINVAL, "'%.40s' is not id=ID", name);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(val, names[i] + 4))
			val = names[i];
	return conf_setf(t->c, val, e, "usb.%u", t->n);
}

/* "kbd" is as good as "usb-kbd". */
static int parse_usb(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { c, st->n_usbs++, 0, 0 };

	return each_part(val, usb_part, &t, e);
}

static int parse_qmp(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "qmp.%u", st->n_qmps++);
}

static int parse_monitor(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "monitor.%u", st->n_monitors++);
}

static int parse_ssh_key(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "ssh-key.%u", st->n_ssh_keys++);
}

/* Repeated --append adds words. */
static int parse_append(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	const char *old = conf_get(c, "append");
	char *both;
	int ret;

	if (!old)
		return conf_set(c, "append", val, e);
	if (asprintf(&both, "%s %s", old, val) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	ret = conf_set(c, "append", both, e);
	free(both);
	return ret;
}

static int parse_config(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	FILE *f = fopen(val, "re");
	int ret;

	if (!f)
		return err_set(e, -errno, "%s: %s", val, strerror(errno));
	ret = conf_read(c, f, val, e);
	fclose(f);
	st->n_initrds = conf_list_len(c, "initrd");
	st->n_disks = conf_list_len(c, "disk");
	st->n_objects = conf_list_len(c, "object");
	st->n_blockdevs = conf_list_len(c, "blockdev");
	st->n_nets = conf_list_len(c, "net");
	st->n_fw_cfgs = conf_list_len(c, "fw-cfg");
	st->n_qmps = conf_list_len(c, "qmp");
	st->n_monitors = conf_list_len(c, "monitor");
	st->n_ssh_keys = conf_list_len(c, "ssh-key");
	st->n_serials = conf_list_len(c, "serial");
	st->n_smbios = conf_list_len(c, "smbios");
	st->n_inputs = conf_list_len(c, "input");
	st->n_usbs = conf_list_len(c, "usb");
	st->n_root_ports = conf_list_len(c, "root-port");
	st->n_chardevs = conf_list_len(c, "chardev");
	st->n_ports = conf_list_len(c, "port");
	st->n_shares = conf_list_len(c, "share");
	st->n_nodes = conf_list_len(c, "numa");
	st->n_vhost_disks = conf_list_len(c, "vhost-disk");
	return ret;
}

#define STATE_FLAG(fn, field) \
	static int fn(struct conf *c, struct opt_state *st, const char *val, struct err *e) { st->field = true; return 0; }

static int parse_on_restore(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->on_restore = val;
	return *val ? 0 : err_set(e, -EINVAL, "the command is missing");
}

STATE_FLAG(parse_dry_run, dry_run)
STATE_FLAG(parse_help, help)
STATE_FLAG(parse_enter, enter)
STATE_FLAG(parse_keep, keep)
STATE_FLAG(parse_auto_converge, auto_converge)
STATE_FLAG(parse_compress, compress)
STATE_FLAG(parse_resume, resume)

const struct opt run_opts[] = {
	{ "name", 0, "NAME", "name of the guest [guest]",
	  "Name of the guest: in messages, in the firmware's tables and as the seed of default MAC addresses.",
	  .key = "name" },
	{ "machine", 'M', "pc|micro", "the kind of machine [pc]",
	  "*pc* has PCI Express, ACPI and the legacy chips an operating system and its drivers expect. "
	  "*micro* has virtio-mmio devices and reduced-hardware ACPI and starts faster.",
	  COMPLETE_WORDS, "pc micro", .key = "machine" },
	{ "accel", 'a', "auto|kvm|translate|interp|check[,split=on]", "the engine that executes guest code [auto]",
	  "*auto* tries whether /dev/kvm runs a kernel well and takes it if so, else the translator; one line on "
	  "standard error tells which, why, and the cure. *translate* is the fast software CPU, *interp* the reference; "
	  "a name insists. *check* runs every piece of translated code on both, interp first, and ends with a report "
	  "(status 5) at the first difference; one vCPU runs at a time, some 30 times slower. With *split=on* KVM keeps only "
	  "the local APICs in the kernel.",
	  COMPLETE_WORDS, "auto kvm translate interp check", .parse = parse_accel },
	{ "cpu", 0, "MODEL[,+F,-F]", "CPU model and features [max]",
	  "*max* is all that the engine and the host can do; *x86-64-v2*, *x86-64-v3* and *x86-64-v4* are the levels of "
	  "the psABI. Features are added with + and taken away with -, by the names Linux shows in /proc/cpuinfo.",
	  COMPLETE_WORDS, "max x86-64-v2 x86-64-v3 x86-64-v4", .key = "cpu" },
	{ "cpus", 'c', "N", "number of virtual CPUs [1]", "Number of virtual CPUs, 1 to 64.", .key = "cpus" },
	{ "max-cpus", 0, "N", "number of CPUs there may be, for more that come while the guest runs [--cpus]",
	  "The number of CPUs there may be, 1 to 64. Those beyond *--cpus* are plugged in while the guest runs (the control protocol's *device_add*, see *query-hotpluggable-cpus*), and all but "
	  "CPU 0 can be taken out again (*device_del*) by a guest that gives them up, as Linux does. What the guest is told of its topology is that of all. A CPU that is not there takes some 200 KiB of the host's memory.",
	  .key = "max-cpus" },
	{ "vcpu", 0, "N[,id=ID][,present=on|off]", "a CPU of --max-cpus that is there, or not, all the same; may be repeated",
	  "CPU *N*, counted from 0, is there from the start though *--cpus* does not reach that far (or is not, with *present=off*). *id=ID* is a name by which *device_del* takes it out. "
	  "For the destination of a guest whose CPUs came or went, which otherwise have no names there.", .parse = parse_vcpu },
	{ "topology", 0, "sockets=N,dies=N,cores=N,threads=N", "what the CPUs are to the guest [cores of one socket]",
	  "How the CPUs, all of *--max-cpus*, lie in sockets, dies, cores and threads, for the guest: CPUs are counted thread by thread, then core by core, and so on. What is not "
	  "given is 1, and the cores as many as that leaves. The number of threads, and that of cores and dies unless there is only one of what they are in, is a power of two.",
	  .parse = parse_topology },
	{ "numa", 0, "node[,cpus=LIST][,memory=SIZE][,distance=NODE:D][,host-nodes=LIST]", "a node of the guest's memory and CPUs; may be repeated",
	  "A node (NUMA), the first is node 0: its CPUs, such as 0-1,,4 or *cpus=0-1,cpus=4*, and its part of the memory. If no node has *cpus=*, sockets are given to nodes in turn; "
	  "CPUs that no node has are node 0's. If no node has *memory=*, all have equal parts; else *--memory* is the sum and may be left out. *distance=1:21* is how far node 1 is "
	  "from this one, 11 to 254 (255: it cannot be reached), both ways unless node 1 says otherwise; it is 20 where nobody does. At most 16 nodes. "
	  "*host-nodes=LIST* are the nodes of the host that its memory lies on: *policy=bind* (the default) on no others, *preferred* on the first of them as long as there is room, *interleave* page by page on all.",
	  .parse = parse_numa },
	{ "memory", 'm', "SIZE[,max=SIZE]", "memory: 512M, 2G; a plain number is MiB [512M]",
	  "Size of the guest's memory with a suffix K, M, G or T; a plain number is MiB. With *max=* more, up to that in all, may come and go while the guest runs, by a memory device "
	  "(virtio-mem) with the id *vm0*: *lodge memory* says how much it should be, see lodge-memory(1). The guest needs its driver (Linux 5.8 and later, on x86-64) and begins without that memory, "
	  "which takes nothing of the host until it has come.", .parse = parse_memory },
	{ "memory-device", 0, "ID,size=SIZE[,requested-size=SIZE][,block-size=SIZE]", "memory that comes and goes, by itself; may be repeated",
	  "A memory device of its own (virtio-mem), instead of the one that *max=* of *--memory* makes, for up to *size* bytes. *requested-size=* is how much of it the guest should have when it has booted [0], "
	  "*block-size=* how much comes or goes at a time at least, a power of two from 1M [2M], *node=N* the NUMA node that it belongs to [0], *memdev=ID* what QEMU's queries call its backend. May be repeated, up to 8 times.",
	  .parse = parse_memory_device },
	{ "memory-backing", 0, "host-nodes=LIST,policy=P,prealloc=on,lock=on,merge=on", "what the host does with the guest's memory",
	  "*host-nodes=LIST* are the nodes of the host that all of the memory lies on, *policy=* is *bind* (the default with it), *preferred* or *interleave*, as with *--numa*. *prealloc=on* has the host "
	  "give all of it before the guest starts, which is then known to be there; *lock=on* also keeps it from being swapped out (*ulimit -l*). With *merge=on* the host's kernel keeps pages once that are the same "
	  "in this and other such guests, if it is told to (KSM: echo 1 >/sys/kernel/mm/ksm/run): guests can then find out by timing what others have in memory, and programs of the guest do not run natively (*--direct*).",
	  .parse = parse_backing },
	{ "cpu-weight", 0, "N", "share of the host's CPUs in competition, 1 to 10000; others have 100",
	  "The guest's process is put into a control group of its own, below the one it was started in, whose share of CPU time against others there is *N* (theirs is 100). Works where "
	  "that may be done: as root, or where the group is delegated (*systemd-run --user --scope -p Delegate=yes lodge run ...*). *x-lodge-set-limits* changes it while the guest runs.", .key = "cpu-weight" },
	{ "cpu-quota", 0, "PERCENT", "most CPU time the guest gets, in percent of one CPU [no limit]",
	  "The guest and all that is done for it get at most *PERCENT* percent of the time of one CPU; 250 is two and a half. A control group as with *--cpu-weight*.", .key = "cpu-quota" },
	{ "huge-pages", 0, "off|thp|2m", "host pages behind the guest's memory [off]",
	  "*thp* asks for transparent huge pages, on the software CPU also where the host's settings give shared memory "
	  "none (Linux 6.1); *2m* takes pages from the host's reserved pool and fails if it has too few.", COMPLETE_WORDS, "off thp 2m", .key = "huge-pages" },
	{ "pin", 0, "CPULIST", "host CPUs to pin the vCPUs to, in turn",
	  "List of host CPUs such as 0,2-3; vCPU N runs on the N-th of them, in turn; one that there is not is an error. *x-lodge-vcpu-pin* of the control protocol changes it.", .key = "pin" },
	{ "kernel", 'k', "FILE", "kernel: bzImage, ELF (PVH) or Multiboot",
	  "The image to boot: a Linux bzImage, an ELF image with a PVH entry, or a Multiboot 1 image.",
	  COMPLETE_FILE, .key = "kernel" },
	{ "initrd", 'i', "FILE", "initial RAM disk; may be repeated",
	  "Initial RAM disk. Several are put one after the other for Linux; they are separate modules for a PVH or "
	  "Multiboot kernel. A Multiboot module's string is the file's name.", COMPLETE_FILE, .parse = parse_initrd },
	{ "module", 0, "FILE", "Multiboot module; the same as --initrd",
	  "The same as *--initrd*, under the name that Multiboot uses.", COMPLETE_FILE, .parse = parse_initrd },
	{ "append", 'p', "TEXT", "words for the kernel's command line",
	  "Words for the kernel's command line; repeated options add up. For Linux, console=ttyS0 is put in front "
	  "unless a console= is among them. If the last one names hvc0, the console is a virtio console, and the serial port "
	  "shows what the guest prints before (earlycon=uart8250,io,0x3f8).", .parse = parse_append },
	{ "firmware", 'f', "bios|uefi|FILE", "firmware to start with [by what there is to boot]",
	  "What runs first. *bios* is SeaBIOS, *uefi* OVMF, from where distributions install them (Debian: the packages seabios and ovmf); "
	  "anything else is the file of an image that ends at 4 GiB; if it is called ...CODE... and a file ...VARS... lies beside it, it is flash with variables. Without this option a *--kernel* is started directly, and a guest "
	  "without a kernel gets firmware, so that *lodge run disk.qcow2* boots the disk. "
	  "With firmware, a *--kernel* is started by it (under SeaBIOS with an option ROM of the package qemu-system-data). "
	  "SeaBIOS shows its messages, menu and what programs print by BIOS calls on the serial port, and takes keys from there.",
	  COMPLETE_WORDS, "bios uefi", .key = "firmware" },
	{ "firmware-vars", 0, "FILE", "file of the guest's UEFI variables [FIRST-DISK.efivars]",
	  "Where the guest's UEFI variables (boot entries, keys) are kept. The file is made from the firmware's template if it is not there. Without "
	  "this option it lies beside the first disk, with *.efivars* after its name; without a disk image that is written to, variables are "
	  "lost when the guest ends. With a file that has keys in it, Debian's *uefi* does Secure Boot: a copy of */usr/share/OVMF/OVMF_VARS_4M.ms.fd* has those by "
	  "which boot loaders of distributions and Microsoft's are signed. The builds *secboot*, *ms* and *snakeoil* of OVMF_CODE need system management mode and are refused.", COMPLETE_FILE, .key = "firmware-vars" },
	{ "boot", 0, "order=LETTERS,menu=on|off|MS", "what firmware boots from [order=cadn,menu=off]",
	  "*order=* names what firmware tries, one after the other: *c* the disks in the order of their options, *a* floppies, *d* CDs, *n* network cards; the letters alone will do (*--boot n*). "
	  "Disks and cards with *bootindex=N* come first, the lowest number before the others. "
	  "*menu=on* offers firmware's boot menu for 5 seconds, *menu=MILLISECONDS* for a time.", .parse = parse_boot },
	{ "fw-cfg", 0, "NAME,string=TEXT|file=FILE", "a file for the guest's firmware or system",
	  "Gives the guest a file through the firmware configuration device (QEMU's fw_cfg), where Linux shows it in "
	  "/sys/firmware/qemu_fw_cfg/by_name. Names for your own use begin with *opt/*. May be repeated.", .parse = parse_fw_cfg },
	{ "cdrom", 0, "FILE[,format=F]", "CD or DVD image in a drive; may be repeated",
	  "A CD or DVD drive on the SATA controller, with the image in it; the same as *--disk FILE,if=ahci,cdrom=on*. An empty name ('') is a drive "
	  "without a medium; *blockdev-change-medium* and *eject* of the control protocol change it. May be repeated.",
	  COMPLETE_FILE, .parse = parse_cdrom },
	{ "object", 0, "JSON", "secret, throttle group or TLS credentials; may be repeated",
	  "A secret or throttle group that block nodes refer to, as QEMU describes it: *{\"qom-type\": \"secret\", \"id\": \"s\", \"file\": \"FILE\"}* "
	  "or *{\"qom-type\": \"throttle-group\", \"id\": \"g\", \"limits\": {\"iops-total\": 100}}*. The nodes and disks of a group share one "
	  "budget. What connections refer to: *{\"qom-type\": \"tls-creds-x509\", \"id\": \"t\", \"dir\": \"DIR\", \"endpoint\": \"server\"}* are credentials of TLS, with ca-cert.pem and server-cert.pem, "
	  "server-key.pem or client-cert.pem, client-key.pem in the directory, and ca-crl.pem, if there is one; *tls-creds-psk* has keys.psk, and *authz-simple* (*identity*) says whom alone of those that have a "
	  "certificate *tls-authz=* lets in.", .parse = parse_object },
	{ "blockdev", 0, "JSON", "block node with a name; may be repeated",
	  "A block node as QEMU's *blockdev-add* describes it, for a disk (*--disk node=NAME*), another node or commands of the control protocol: "
	  "*{\"driver\": \"qcow2\", \"node-name\": \"n\", \"file\": {\"driver\": \"file\", \"filename\": \"FILE\"}}*. Drivers are file, host_device, nbd, http, https, "
	  "null-co, raw, qcow2, luks, vmdk, vdi, vhdx, vpc, throttle, copy-on-read and blkdebug. Backing and data files that the description does not "
	  "give, but the image names, are opened if they lie in its folder or below.", .parse = parse_blockdev },
	{ "floppy", 0, "FILE[,ro]", "floppy disk image in a drive; may be repeated",
	  "A floppy drive with the image, which is raw and of 160K, 180K, 320K, 360K or 1200K (5.25 inches), or 720K, 1440K or 2880K (3.5 inches), in it; the same as *--disk FILE,if=floppy*. "
	  "An empty name ('') is a drive of 2880K without a medium; *blockdev-change-medium* and *eject* of the control protocol change it, for what the drive can take. "
	  "There are two drives at most. OVMF has no driver for them.",
	  COMPLETE_FILE, .parse = parse_floppy },
	{ "disk", 'd', "FILE[,size=N][,if=I][,ro][,format=F]", "disk, image file or block device; may be repeated",
	  "A disk on an image file, a block device or an NBD server; may be repeated. A server's export is named by a URI: "
	  "*nbd://HOST/EXPORT*, *nbd+unix:///EXPORT?socket=PATH*, with TLS *nbds://* and *nbds+unix://* (*tls-certificates=FOLDER* "
	  "or *tls-psk-file=FILE* in the URI, see nbd_connect_uri(3)); *http://* and *https://* name a file on a web server that knows ranges, to be read (*ro*); "
	  "*null-co://SIZE* is a disk that is not there, for benchmarks. A "
	  "file whose name looks like a URI is written with ./ or file: in front. *format=* is *raw*, *qcow2* or *luks*, or, with *ro*, *vmdk*, *vdi*, *vhdx* or *vpc*; without it "
	  "the file is looked at, and if it is taken for raw the guest may not write something into the first sector that "
	  "looks like another format. *node=NAME* in place of the file is the block node that the disk stands on (*--blockdev*). *size=20G* makes a new, empty disk where there is no such file: qcow2 if its name ends so or *format=* says so, else raw; one that is there "
	  "is used as it is. *backing=* says which backing files (and data files) the image may name: *folder*, those in its own "
	  "folder or below (the default), *on*, any, *off*, none. *key-file=FILE* or *key-fd=N* (a descriptor that the shell opened: N<FILE) "
	  "holds the passphrase of an encrypted image, every byte of it; it is also tried on encrypted backing files, unless they get keys of their own, "
	  "in order, by repeating the option. *if=* says what the guest sees: *virtio* (the default), *scsi*, a unit of a virtio-scsi "
	  "adapter, one for all such disks unless *controller=NAME* names several, at the address *scsi-id=N*, *lun=N* (by default the next free target), *nvme*, an NVMe controller, one for "
	  "each disk unless *controller=NAME* makes those of one name its namespaces, *ahci*, one of six ports of a SATA controller, *usb*, a stick on a USB 3 port, or *floppy* (*--floppy*). *cdrom=on* makes it a CD or DVD drive (scsi, ahci, usb). *ro* makes it read-only. *snapshot=on* leaves the image as it is: what the guest writes goes to a temporary file in $TMPDIR (/var/tmp), which is gone when the guest ends. *serial=* is seen by "
	  "the guest in /dev/disk/by-id. *cache=* is *writeback* (the default), *none* (direct I/O), *writethrough* "
	  "or *unsafe* (flushes are ignored). *aio=* is *auto*, *uring* or *threads*. *copy-on-read=on* keeps what is read from "
	  "backing files in the image. *bps=N* and *iops=N* limit bytes and requests a second, *bps-rd*, *bps-wr*, *iops-rd* and *iops-wr* "
	  "reads and writes each; each of the six with *-max* is a higher rate for bursts, of *-max-length* seconds (1) after quiet times; with "
	  "*iops-size=BYTES* a request that is longer counts as several; the disks of one *throttle-group=NAME*, which may be an *--object*, share its limits, those that were said last. "
	  "*werror=* and *rerror=* say what happens when a write or read fails on the host: *report* it to the guest, *stop* (the guest is "
	  "paused, and goes on and tries again when this process gets SIGUSR2), *ignore*, or, for writes, *enospc*: stop when "
	  "there is no room left, else report (the default for writes; for reads it is report). Each disk has an I/O thread; disks with the "
	  "same *iothread=NAME* share one, *iothread=off* uses the thread of the other devices. *num-queues=N* sets the number of "
	  "queues (of an adapter, with its first disk), *discard=ignore* keeps the guest from giving space back. *logical_block_size=*, *physical_block_size=*, "
	  "*min_io_size=*, *opt_io_size=* and *discard_granularity=* (bytes) are what the guest is told; by default what the image or device says. *bootindex=N* is a place in the boot order, *bus=ID* puts a virtio disk into the slot of a *--root-port*, *slot=N* (1 to 22) on this one of the root bus. *id=ID* is a name by which *device_del* takes it out. *absent=on*, with an empty name, makes only the controller (scsi, usb) for disks that come while the guest runs; *hotplugged=on* is for one that did, where such a guest is to come by *--incoming*. "
	  "A comma in the file's name is written twice. The file is locked while the guest runs.\n\n"
	  "*vhost-user=SOCKET* in place of a file is a virtio disk that another process serves (vhost-user-blk: *qemu-storage-daemon*, SPDK), which says itself what disk it is: "
	  "*--disk vhost-user=/run/disk.sock*. It shares the guest's memory. It is reached at the socket, again every *reconnect=SECONDS* [1] when it has gone, or with "
	  "*server=on* connects there itself; the guest's requests wait meanwhile, and none is lost. Of the options above it has *num-queues=* [one for each vCPU, as far as the process has "
	  "so many], *bootindex=* and *bus=*, and besides *queue-size=N* [128].", COMPLETE_FILE, .parse = parse_disk },
	{ "user-data", 0, "FILE", "for cloud-init in the guest: what to set up",
	  "What cloud-init in the guest is to do: a *#cloud-config* file, a script, or whatever else cloud-init takes. With this, *--meta-data*, *--network-config*, "
	  "*--ssh-key* or *--hostname* the guest gets one more disk, read-only and last, with a file system labelled cidata (data source NoCloud), and SMBIOS says "
	  "ds=nocloud in the system's serial number unless *--smbios* gives it another. The disk is made in memory. The network is DHCP unless *--network-config* says "
	  "otherwise. A guest whose files here have changed is set up anew.", COMPLETE_FILE, .key = "user-data" },
	{ "meta-data", 0, "FILE", "for cloud-init: who the guest is [made from --name]",
	  "cloud-init's meta-data, instead of what is made from *--hostname* and *--ssh-key*.", COMPLETE_FILE, .key = "meta-data" },
	{ "network-config", 0, "FILE", "for cloud-init: its network [DHCP]", "cloud-init's network configuration, version 1 or 2.", COMPLETE_FILE, .key = "network-config" },
	{ "ssh-key", 0, "FILE", "for cloud-init: a public key that may log in; may be repeated",
	  "A file of public SSH keys, which cloud-init lets the image's default user log in with (Debian's: debian). May be repeated.", COMPLETE_FILE,
	  .parse = parse_ssh_key },
	{ "hostname", 0, "NAME", "for cloud-init: the guest's host name [--name]", "The host name that cloud-init sets; *--name* unless it is given.", .key = "hostname" },
	{ "net", 'n', "user[,fwd=...][,tftp=FOLDER,bootfile=NAME]|tap[,if=NAME][,model=M]|none", "network card; may be repeated [user]",
	  "A network card; may be repeated. *model=* is *virtio* (the default), or *e1000e*, Intel's 82574L, for systems without virtio drivers. *user* needs no rights: the guest gets 10.0.2.15 by DHCP, reaches what "
	  "this process can reach, and the host's loopback at 10.0.2.2. *fwd=tcp:HOSTPORT:GUESTPORT* (or udp:, or "
	  "tcp:ADDRESS:HOSTPORT:GUESTPORT; may be repeated) forwards a port of the host, by default of its loopback, "
	  "to the guest. *restrict* cuts a user network off from everything but its forwardings. *tap* uses a "
	  "tap interface (*if=NAME*, *queues=N*), *mac=* sets the card's address. To boot from a user network, *tftp=FOLDER* shows the guest the "
	  "folder's files by TFTP (whatever links in it lead to, too) and *bootfile=NAME* is what DHCP tells it to load from there, or an URL (http://10.0.2.2:PORT/FILE is a "
	  "web server on the host's loopback) where iPXE does the loading; *tftp-server-name=* is DHCP's option 66. *hostname=*, *domainname=* and *dnssearch=* are what DHCP says of the guest's name; *net=NETWORK/BITS* is another network than 10.0.2.0/24, *host=*, *dns=* and *dhcpstart=* are the router, the name server and the guest in it. *romfile=FILE* is the card's option ROM: with *--firmware bios* it is "
	  "iPXE's, from the package ipxe-qemu, else there is none, since OVMF has a driver (efi-virtio.rom has iPXE for it); *romfile=* alone or "
	  "*rombar=off* leave it out. *bootindex=N* is a place in the boot order, *bus=ID* the slot of a *--root-port*, *slot=N* (1 to 22) one of the root bus, *id=ID* a name by which *device_del* takes the card out, *netdev=ID* that of the network. Without --net there is one user "
	  "network; *none* means no card.", COMPLETE_WORDS, "user tap none", .parse = parse_net },
	{ "console", 0, "stdio|pty|none|FILE", "where the guest's console goes [stdio]",
	  "*stdio* is this terminal (raw while the guest runs; Ctrl-] leaves) or whatever standard input and output "
	  "are; *pty* makes a pseudo terminal and prints its name; *none* throws the output away; anything else is a "
	  "file that gets the output. With --exec the default is none.",
	  COMPLETE_WORDS, "stdio pty none", .key = "console" },
	{ "escape", 0, "N[,x]", "control character that leaves the console [29]",
	  "The control character, by its number, that leaves a console on a terminal: 29 is Ctrl-]. With *,x* it is that character and an x (1,x is QEMU's "
	  "Ctrl-a x), and twice the character itself goes to the guest.", .key = "escape" },
	{ "display", 0, "vnc[=[HOST]:N|unix:PATH][,...]|none", "where the guest's screen is shown [vnc, without --kernel]",
	  "*vnc* is a VNC server, on TCP port 5900 + N of HOST (the loopback by default) or a unix socket; without an address on the "
	  "first free display, which is printed. *websocket=PORT* listens for WebSockets on HOST, too, so that noVNC connects directly. "
	  "*password-file=FILE* or *password-fd=N* holds the password (VNC uses 8 characters), *view-password-file=* and *view-password-fd=* one for "
	  "viewers who only look; with *read-only* all do. With *password=later* nobody may connect before the control protocol's *set_password* has said "
	  "what it is. *tls-cert=FILE* and *tls-key=FILE* (PEM) encrypt (VeNCrypt X509, wss), *tls=anon* without "
	  "certificates. Several viewers share the screen. A guest that firmware starts (no *--kernel*, no *--exec*) has a VGA and *vnc* on the loopback by itself, "
	  "and its serial console as well; if no port from 5900 to 5999 is free a line says so and the guest runs without. Every user of this host can then connect: "
	  "*none*, a unix socket or a password keeps them out.", COMPLETE_WORDS, "vnc none", .parse = parse_display },
	{ "vga", 0, "std|virtio|virtio-gpu|none[,vram=SIZE][,outputs=N][,romfile=FILE]", "display adapter [std with a display, else none]",
	  "*std* is a VGA with the Bochs VBE extensions (PCI 1234:1111), as bochs-drm, firmware and Windows know it, with *vram=* "
	  "16M or another power of two from 1M to 256M. *virtio* (QEMU's virtio-vga) is such a VGA until a driver of virtio-gpu takes over, which "
	  "changes its size with the viewer's window; *virtio-gpu* (virtio-gpu-pci) has no VGA, and is all that --machine micro can have. *outputs=N*, up "
	  "to 4, gives them more screens: VNC shows the first, the control protocol's screendump all. "
	  "With *--firmware bios* a VGA has the VGA BIOS of the package seabios as its option ROM; *romfile=FILE* is another one, *romfile=* alone or "
	  "*rombar=off* none.",
	  COMPLETE_WORDS, "std virtio virtio-gpu none", .parse = parse_vga },
	{ "usb", 0, "DEVICE", "USB device: tablet, kbd, mouse [tablet with a display]; may be repeated",
	  "Something to type or point with on USB (a qemu-xhci controller): *usb-tablet*, *usb-mouse* or *usb-kbd*, or the same without *usb-*. With a display (*--display*) there is a "
	  "tablet, by which the guest's pointer is where the viewer's is, unless another pointer is given here or by *--input*, or *none*. Keys and motions go to the USB device "
	  "once the guest has asked it, and until then to the PS/2 one. *id=ID* is a name by which *device_del* takes it out; *absent* is a controller for devices that come while the guest runs. For disks on USB see *--disk*.", COMPLETE_WORDS, "usb-tablet usb-kbd usb-mouse none",
	  .parse = parse_usb },
	{ "root-port", 0, "ID[,slot=N]", "PCI Express root port with a slot for a card; may be repeated",
	  "A PCI Express root port, which is a slot that a card can be put in and taken out of while the guest runs (the control protocol's *device_add* with *bus=ID*, and "
	  "*device_del*). *slot=N* is the number that the guest shows, by default the next one. Disks with *if=virtio* and network cards begin in it with *bus=ID*. "
	  "For --machine pc. May be repeated, up to 16 times.", .parse = parse_root_port },
	{ "hotplug", 0, "N", "number of free root ports [0]",
	  "So many root ports more, *hotplug1* and so on, for cards that are added without a *bus*; at most 8.", .key = "hotplug" },
	{ "pci-hotplug", 0, "on|off", "cards of the root bus come and go [on]",
	  "Whether disks with *if=virtio* and network cards can be added to slots of the root bus, too (the control protocol's *device_add* with *bus=pci.0*, or without *bus* when no root port is "
	  "free), and be taken out by *device_del*; the guest hears of them by ACPI, and gives a card up at once, where a root port's takes 6 seconds. Of cards that are there from the start only those "
	  "with *slot=N* can be taken out. For --machine pc.", COMPLETE_WORDS, "on off", .key = "pci-hotplug" },
	{ "kept-slots", 0, "N,...", "slots of the root bus for cards with slot=N only [none]",
	  "Slots of the root bus that only cards with *slot=N* are put in. Others take the next free one: so they lie where they lay beside cards that came or went, where such a guest is to come by *--incoming*.", .key = "kept-slots" },
	{ "exec", 'e', "COMMAND", "run a command in the guest and return its exit status",
	  "Waits until the guest is up, runs the command there with sh -c, standard input, output and error "
	  "connected to this program's, powers the guest off and returns the command's status. The guest needs the "
	  "small script of docs/exec-protocol.md; guests made by quickstart have it. If the command cannot be run the "
	  "status is 125.", .key = "exec" },
	{ "exec-timeout", 0, "SECONDS", "how long --exec waits for the guest [300]", NULL, .key = "exec-timeout" },
	{ "debugcon", 0, "stdio|none|FILE", "Bochs debug console at port 0xe9 [none]",
	  "Where the output of the debug console at I/O port 0xe9 goes.",
	  COMPLETE_WORDS, "stdio none", .key = "debugcon" },
	{ "debug-exit", 0, NULL, "isa-debug-exit at port 0xf4: a write ends lodge",
	  "The isa-debug-exit device at port 0xf4: writing V ends the guest with exit status (V << 1) | 1.",
	  .key = "debug-exit" },
	{ "test-device", 0, NULL, "the devices test kernels expect: debug console and debug exit",
	  "What test kernels written for QEMU's pc-testdev expect where this machine has it: isa-debug-exit at "
	  "port 0xf4 and the serial port.", .key = "test-device" },
	{ "balloon", 0, "on|off", "virtio balloon with free page reporting [on]", NULL,
	  COMPLETE_WORDS, "on off", .key = "balloon" },
	{ "rng", 0, "on|off", "virtio entropy source [on]", NULL, COMPLETE_WORDS, "on off", .key = "rng" },
	{ "chardev", 0, "KIND,id=ID[,...]", "a byte stream to the outside, for --serial, --port and --monitor; may be repeated",
	  "A byte stream to the outside with a name, for *--serial*, *--port* and *--monitor*: *socket,id=ID,path=PATH* or *socket,id=ID,host=HOST,port=PORT*, which connects, with "
	  "*reconnect=SECONDS* again and again, or with *server=on* listens (*wait=on*: the guest does not start before somebody came); what the "
	  "guest writes while nobody is connected is lost, and TCP is for loopback, where it is by default; *telnet=on* is for a telnet program at the other side; *fd=N* is a socket that was handed down. On TCP "
	  "*tls-cert=FILE* and *tls-key=FILE* (PEM) have a server speak TLS, and *tls-ca=FILE* has it want certificates that those in FILE vouch for; a client has *tls-ca=*, and a certificate of its own if the "
	  "server wants one; *tls-creds=ID* and *tls-authz=ID* are QEMU's way, see *--object*. A side that has not finished its handshake in ten seconds is given up. *websocket=on* has a server's clients "
	  "(browsers) open WebSockets. *file,id=ID,path=FILE* (*append=on*), *pty,id=ID*, "
	  "*ringbuf,id=ID,size=BYTES* keeps the newest bytes for the control protocol's ringbuf-read, *vdagent,id=ID* is this end of SPICE's agent, which "
	  "*--clipboard* sets up along with its port, *null,id=ID*; *stdio,id=ID* is standard input and "
	  "output, which the console then has not (*signal=off*: Ctrl-C is the guest's). With *mux=on* several serial ports, ports and monitors share it: what they write "
	  "comes together, what is typed goes to one, and Ctrl-a c (*escape=N* is another control character) changes to the next; Ctrl-a h lists more. May be repeated.",
	  COMPLETE_WORDS, "socket file pty ringbuf vdagent null stdio", .parse = parse_chardev },
	{ "serial", 0, "ID|none", "serial port on a chardev; may be repeated",
	  "The serial ports, from the first one (ttyS0), each on a *--chardev*, or *none*. The first one is in the place of the console: *--console none* goes with it. "
	  "May be repeated, for up to four.", .parse = parse_serial },
	{ "port", 0, "NAME,chardev=ID", "virtio serial port; may be repeated",
	  "A port of a virtio serial device that leads to a *--chardev*: /dev/virtio-ports/NAME in Linux; with *console=on* it is a console "
	  "(/dev/hvc0 and so on). *id=ID* is a name by which *device_del* takes it out. May be repeated.", .parse = parse_port },
	{ "port-places", 0, "N", "places for ports of the virtio serial device [8 more than ports]",
	  "How many ports the virtio serial device can have, up to 31, with one that is never used counted, for those that come while the guest runs. With this option there is such a "
	  "device even without a *--port*.", .key = "port-places" },
	{ "share", 0, "FOLDER[,tag=TAG][,readonly][,...]", "a folder of the host that the guest may mount; may be repeated",
	  "A folder of the host that the guest may mount: *mount -t 9p -o trans=virtio,version=9p2000.L TAG /mnt* in Linux (add *msize=512000* for speed). "
	  "Without *tag=* the tags are share0, share1 and so on. "
	  "With *readonly* nothing can be changed. *security-model=* says where owners, modes and kinds of files are kept: *none* (the default) as they are "
	  "on the host, where a file that the guest makes is this user's; *passthrough* as they are, with the guest's owners, which needs root; "
	  "*mapped-xattr* and *mapped-file* beside the files, so that a guest has users and devices of its own while all files are this user's, with the "
	  "permissions *fmode=* [0600] and *dmode=* [0700]. *multidevs=remap|warn|forbid* is about inode numbers where several file systems are in the folder "
	  "[remap]; *writeout=immediate* has the host write data to its disk at once. Links that lead out of the folder lead nowhere: they are the "
	  "guest's to follow, and devices, pipes and sockets of the host are never opened. May be repeated.\n\n"
	  "*virtiofs=SOCKET* in place of a folder is a file system that another process serves (vhost-user-fs: *virtiofsd*), with a tag of at most 36 bytes: "
	  "*--share virtiofs=/run/fs.sock,tag=TAG*, in Linux *mount -t virtiofs TAG /mnt*. It shares the guest's memory. *server=* and *reconnect=* are as with *--disk vhost-user=*; "
	  "*num-queues=N* [1] is the number of queues for requests, *queue-size=N* [128] their length. Such a guest can be neither saved nor migrated.", COMPLETE_FILE, .parse = parse_share },
	{ "vsock", 0, "on|[cid=N][,path=PATH]", "stream sockets between guest and host (virtio-vsock) [none]",
	  "Sockets of the guest's address family AF_VSOCK, to and from unix sockets of this host, with the convention of Firecracker and Cloud Hypervisor; nothing of the host's kernel "
	  "is needed. *cid=N* is the guest's number [3], *path=PATH* the socket [$XDG_RUNTIME_DIR/lodge/NAME.vsock, for this user alone]. A program here connects to PATH, writes *CONNECT PORT* and a "
	  "newline, and reads *OK* with a number and a newline when something in the guest that listens on PORT has taken the connection, which what follows is: see *lodge-vsock*(1), "
	  "also for ssh. A program in the guest that connects to port P of CID 2 gets whoever listens on the unix socket PATH_P here.", COMPLETE_WORDS, "on", .parse = parse_vsock },
	{ "guest-agent", 0, "on|PATH", "port and socket for QEMU's guest agent",
	  "A port for QEMU's guest agent (package qemu-guest-agent in the guest) and a unix socket on this side, on which the agent's commands "
	  "(JSON) are given: PATH, or with *on* $XDG_RUNTIME_DIR/lodge/NAME.agent.", COMPLETE_WORDS, "on", .key = "guest-agent" },
	{ "clipboard", 0, "on|off", "share the guest's clipboard with VNC's viewers [off]",
	  "What is copied in the guest can be pasted in a viewer, and the other way round: text, up to 1 MiB. The guest needs SPICE's agent (package spice-vdagent) "
	  "in its graphical session; it is reached by the port com.redhat.spice.0. Viewers that only look take no part. Of X's selections it is CLIPBOARD.",
	  COMPLETE_WORDS, "on off", .key = "clipboard" },
	{ "input", 0, "KIND", "virtio-keyboard, virtio-mouse or virtio-tablet; may be repeated",
	  "A keyboard, mouse or tablet of virtio's kind, for guests with the driver: *virtio-keyboard*, *virtio-mouse*, *virtio-tablet* (a "
	  "pointer that is where the viewer's is). While the guest does not drive it, the PS/2 ones get what is typed. May be repeated.",
	  COMPLETE_WORDS, "virtio-keyboard virtio-mouse virtio-tablet", .parse = parse_input },
	{ "tpm", 0, "on|crb|tis[,state=FOLDER|socket=PATH[,end=on]]", "TPM 2.0, by swtpm [none]",
	  "A TPM 2.0, which is the program swtpm(8), with the command response buffer interface (*crb*, also *on*) or the FIFO interface (*tis*). It "
	  "is started along with the guest. Its state, which has the guest's keys, is in a folder for this user alone: *state=FOLDER*, by default "
	  "beside the first disk, with *.tpm* after its name; without a disk image that is written to, it is lost when the guest ends. "
	  "*socket=PATH* takes one that runs already, by its control socket (*swtpm socket --tpm2 --ctrl type=unixio,path=PATH ...*); with *end=on* it is "
	  "told to end when the guest has ended, otherwise it stays.",
	  COMPLETE_WORDS, "none on crb tis", .parse = parse_tpm },
	{ "vmgenid", 0, "GUID|auto|none", "VM generation ID [auto]",
	  "A VM generation ID, by which a guest knows that it is a copy when it changes (see lodge-snapshot(1)): *auto* makes one up. *lodge-qemu* has none unless asked.",
	  COMPLETE_WORDS, "none auto", .key = "vmgenid" },
	{ "watchdog", 0, "i6300esb[,action=A]", "watchdog timer [none]",
	  "A watchdog timer that the guest must feed once its driver has started it. What comes of one that runs out: *action=reset* (the "
	  "default), *shutdown* (the power button), *poweroff*, *pause*, *debug* (a message), *none* or *inject-nmi*.",
	  COMPLETE_WORDS, "none i6300esb", .parse = parse_watchdog },
	{ "uuid", 0, "UUID", "the machine's UUID, in the firmware's tables [none]", NULL, .key = "uuid" },
	{ "smbios", 0, "type=N,FIELD=TEXT,...", "texts of the SMBIOS tables; may be repeated",
	  "Texts of the SMBIOS tables, by QEMU's names: *type=0* (BIOS) has vendor, version and date; *type=1* (system) manufacturer, product, "
	  "version, serial, uuid, sku and family; *type=2* (board) manufacturer, product, version, serial, asset and location; *type=3* (chassis) "
	  "manufacturer, version, serial, asset and sku; *type=11* (OEM strings) up to 16 of value=TEXT, where systemd looks for credentials "
	  "(io.systemd.credential:NAME=VALUE). A comma is written twice.", .parse = parse_smbios },
	{ "rtc", 0, "utc|localtime|DATE[THH:MM:SS]", "time of the real-time clock [utc]",
	  "What the real-time clock shows: *utc*, *localtime* (of this process; Windows expects that) or a date and time that it is when the guest starts.",
	  COMPLETE_WORDS, "utc localtime", .parse = parse_rtc },
	{ "defaults", 0, "lodge|qemu", "what nobody asked for [lodge]",
	  "With *qemu* as QEMU has it: no balloon, no entropy source, no control socket and no console unless asked for, nothing added to the kernel's command "
	  "line; SIGTERM ends the guest at once, a triple fault resets it, and the exit status is 0 however it ended (unless it chose one by debug exit, "
	  "or the host failed). *lodge-qemu*(1) says this.", COMPLETE_WORDS, "lodge qemu", .key = "defaults" },
	{ "daemonize", 0, NULL, "go on in the background once the guest starts", "Returns when the guest is about to run, which goes on in the background "
	  "without a terminal. What cannot be done is still said, and the status is then not 0.", .key = "daemonize" },
	{ "pidfile", 0, "FILE", "write the process ID to a file", "Writes the process ID of the guest to the file when it is about to run, and removes the file at the end.",
	  COMPLETE_FILE, .key = "pidfile" },
	{ "no-reboot", 0, NULL, "end (status 6) when the guest reboots", "A reboot by the guest ends lodge with status 6.",
	  .key = "no-reboot" },
	{ "shutdown-timeout", 0, "SECONDS", "time from power button to the end after SIGTERM [30]",
	  "SIGTERM, SIGHUP and SIGINT press the guest's power button; if it has not powered off after this time it is "
	  "ended with status 8. 0 ends it at once.", .key = "shutdown-timeout" },
	{ "stats", 0, NULL, "print counters at the end", "Prints counters on standard error at the end: of the run, "
	  "the CPU engine, each disk (diskN_) and each network card (netN_).", .key = "stats" },
	{ "qmp", 0, "unix:PATH|tcp:HOST:PORT|fd:N|stdio[,server=on|off][,wait=on|off]", "control protocol (QMP); may be repeated",
	  "Serves the control protocol, QMP, see lodge-qmp(1): on a unix socket or a TCP port, on a descriptor that was handed down, or on "
	  "standard input and output; may be repeated. *server=on* (the default) listens, *off* connects; with *wait=on* (the "
	  "default) the guest does not start before a client has come. *pretty=on* prints answers over several lines. Whoever can "
	  "connect owns the guest and may read and write files as the user: TCP is for loopback, or has TLS: *tls-cert=*, *tls-key=*, "
	  "*tls-ca=*, *tls-creds=*, *tls-authz=* and *websocket=* are those of *--chardev*.", .parse = parse_qmp },
	{ "monitor", 0, "ID", "monitor for people (HMP) on a chardev; may be repeated",
	  "A monitor for people on a *--chardev*: commands with a prompt, those of human-monitor-command, *help* lists them. Up to eight.", .parse = parse_monitor },
	{ "gdb", 0, "PORT|tcp:HOST:PORT|unix:PATH", "a gdb may connect",
	  "Listens for gdb (*target remote*): on a port of this host's loopback, or where the address says. One gdb at a time; while it is there "
	  "it decides when the guest runs. It sees a thread for each CPU, all registers and memory by linear addresses; *monitor* gives the "
	  "commands of the monitor for people (HMP). With *--paused* the guest waits for it before its first instruction. Who can connect owns the guest.",
	  .key = "gdb" },
	{ "control", 0, "on|off", "socket for lodge qmp and lodge ps [on]",
	  "Whether the guest has a control socket in the user's runtime directory ($XDG_RUNTIME_DIR/lodge/NAME/qmp, for this user "
	  "only), by which *lodge qmp* and *lodge ps* find it. Two guests with one *--name* cannot have one.", COMPLETE_WORDS, "on off",
	  .key = "control" },
	{ "from-snapshot", 0, "DIR", "go on from a snapshot (lodge snapshot create)",
	  "Goes on where *lodge snapshot create* left a guest, see lodge-snapshot(1). The machine is the saved one; of the other options only those "
	  "about this run may be given: *--name*, *--net* (where a card leads, and *fwd=*, anew), *--display*, *--console*, *--accel*, *--qmp* and the like.",
	  COMPLETE_FILE, .key = "from-snapshot" },
	{ "in-place", 0, NULL, "with --from-snapshot: bring the disks themselves back",
	  "With *--from-snapshot*: the guest gets its disks themselves, brought back to what they were when it was saved, not temporary files over them. What was "
	  "written to them since is lost. No other guest may use them.", .key = "in-place" },
	{ "on-restore", 0, "COMMAND", "with --from-snapshot: a command in the guest, by its agent",
	  "With *--from-snapshot*: a shell in the guest runs the command once the guest goes on, so that a copy gets what must be its own: random numbers, host name, machine id, keys, "
	  "addresses (see lodge-snapshot(1)). It needs qemu-guest-agent in the guest, and that it was started with *--guest-agent*. If it fails, or does not end within two minutes, a message says so; with "
	  "*--daemonize* lodge waits for it, and its status is then 1.", .parse = parse_on_restore },
	{ "loadvm", 0, "TAG", "go on from a snapshot inside the disks (savevm)",
	  "Goes on from the snapshot _TAG_ that *lodge snapshot create --inside*, or the monitor's *savevm*, has left inside the guest's disks, in the place of a "
	  "boot; the disks are brought back to it, and what was written to them since is lost. All options that make the machine are those the guest had when it was saved.",
	  .key = "loadvm" },
	{ "incoming", 0, "tcp:HOST:PORT|unix:PATH|exec:COMMAND|fd:N|defer", "the guest comes from another process (lodge migrate)",
	  "The machine is made and waits for a guest that *lodge migrate* sends it, see lodge-migrate(1). All options that make the machine are those the guest was "
	  "started with, and its disks are the same files; the guest's process hands them over. With *defer* the control protocol's *migrate-incoming* says "
	  "where to wait. Whoever can connect decides what the machine runs: TCP is for networks that are trusted, or goes with *--incoming-tls*.", .key = "incoming" },
	{ "incoming-tls", 0, "DIR", "with --incoming: by TLS, and from whom the CA in DIR has signed",
	  "Takes the guest of *--incoming* by TLS only, from a source with a certificate. In the directory are *server-cert.pem* and *server-key.pem*, this side's own, and "
	  "*ca-cert.pem*, by which the other side's certificate must be signed (and *ca-crl.pem*, if there is one: certificates that are not valid any more). All are PEM.", COMPLETE_FILE,
	  .key = "incoming-tls" },
	{ "paused", 0, NULL, "do not start the CPUs: the control protocol's cont does", NULL, .key = "paused" },
	{ "code-cache", 0, "SIZE", "memory for translated code [256M]", "How much memory the translator may use for code and what it "
	  "keeps about it, 1M to 1024M. When it is full the oldest code is given up, piece by piece. Other engines have no use for it.",
	  .key = "code-cache" },
	{ "direct", 0, "auto|off|always", "guest programs on the host CPU itself [auto]", "The translator lets guest programs that compute for "
	  "long without their kernel run as they are, each in a process of its own that can make no system call; *auto*: where that "
	  "pays, *always*: whenever it can be done (for tests). It needs ptrace(2) and an operating system whose user segments are as "
	  "Linux has them.", COMPLETE_WORDS, "auto off always", .key = "direct" },
	{ "sandbox", 0, "auto|on|off", "whether the VMM's threads are confined [auto]", "Which system calls each thread of the VMM may make is a "
	  "list: vCPUs and disks' threads can open no file, connect nowhere and start nothing, and have no capabilities; *on* fails where "
	  "the kernel or this build cannot filter, *auto* goes on with a warning.", COMPLETE_WORDS, "auto on off", .key = "sandbox" },
	{ "perf-map", 0, NULL, "write /tmp/perf-PID.map for perf", "The translator writes /tmp/perf-PID.map, by which *perf report* "
	  "names samples in translated code by guest-physical address, mode and the RIP first seen. The file stays.",
	  .key = "perf-map" },
	{ "dump-block", 0, "ADDRESS[,FILE]", "show how the code at an address is translated",
	  "Whenever the translator makes a block that holds the (hexadecimal) address, a RIP or guest-physical, it prints the "
	  "guest's instructions beside the host's, on standard error or to the file.", .key = "dump-block" },
	{ "config", 0, "FILE", "read settings from a file as --dry-run prints them", NULL, COMPLETE_FILE,
	  .parse = parse_config },
	{ "dry-run", 0, NULL, "check the options, print the configuration, start nothing", NULL, .parse = parse_dry_run },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

static int parse_output(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->json = !strcmp(val, "json");
	return st->json || !strcmp(val, "table") ? 0 : err_set(e, -EINVAL, "'%.40s' is neither table nor json", val);
}

const struct opt qmp_opts[] = {
	{ "events", 0, NULL, "in the place of a command: print events until the guest ends", NULL, .parse = parse_help },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

const struct opt ps_opts[] = {
	{ "output", 'o', "table|json", "form of the list [table]", NULL, COMPLETE_WORDS, "table json", .parse = parse_output },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

static int parse_number(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	char *end;
	unsigned long n = strtoul(val, &end, 10);

	if (!isdigit((unsigned char)*val) || *end || n > 60000)
		return err_set(e, -EINVAL, "'%.40s' is not a number up to 60000", val);
	st->number = (unsigned)n;
	st->number_given = true;
	return 0;
}

const struct opt screenshot_opts[] = {
	{ "head", 0, "N", "the screen of an adapter that has several, from 0 on [0]", NULL, .parse = parse_number },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

const struct opt sendkey_opts[] = {
	{ "hold", 0, "MILLISECONDS", "how long keys are held [100]", NULL, .parse = parse_number },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

const struct opt vsock_opts[] = {
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

static int parse_no_wait(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->number = 0;
	st->number_given = true;
	return 0;
}

const struct opt memory_opts[] = {
	{ "wait", 0, "SECONDS", "how long to wait until the guest has it [30]", NULL, .parse = parse_number },
	{ "no-wait", 0, NULL, "only tell the guest", NULL, .parse = parse_no_wait },
	{ "output", 'o', "table|json", "form of what is printed [table]", NULL, COMPLETE_WORDS, "table json", .parse = parse_output },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

const struct opt type_opts[] = {
	{ "enter", 0, NULL, "press Enter at the end", NULL, .parse = parse_enter },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

static int parse_stop(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->then = "stop";
	return 0;
}

static int parse_inside(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->inside = true;
	return 0;
}

static int parse_diff_of(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->diff_of = val;
	return *val ? 0 : err_set(e, -EINVAL, "the name of a directory is missing");
}

static int parse_quit(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->then = "quit";
	return 0;
}

const struct opt snapshot_opts[] = {
	{ "stop", 0, NULL, "create: leave the guest standing still", NULL, .parse = parse_stop },
	{ "quit", 0, NULL, "create: end the guest once it is saved", NULL, .parse = parse_quit },
	{ "compress", 0, NULL, "create: compress the memory (zstd); it is then read in whole when a guest goes on", NULL, .parse = parse_compress },
	{ "diff-of", 0, "DIR", "create: save only memory that differs from this snapshot's, which is needed then", NULL, COMPLETE_FILE, .parse = parse_diff_of },
	{ "inside", 0, NULL, "snapshots inside the disks of a running guest, not directories", NULL, .parse = parse_inside },
	{ "keep-disks", 0, NULL, "rm: leave the snapshots inside disks", NULL, .parse = parse_keep },
	{ "output", 'o', "table|json", "list: form of the list [table]", NULL, COMPLETE_WORDS, "table json", .parse = parse_output },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

static int parse_streams(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	char *end;
	unsigned long n = strtoul(val, &end, 10);

	if (*end || !*val || n > 16)
		return err_set(e, -EINVAL, "'%.40s' is no number from 0 to 16", val);
	st->streams = (unsigned)n;
	return 0;
}

static int parse_postcopy(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	char *end;
	unsigned long n = strtoul(val, &end, 10);

	if (*end || !*val || n > 1000)
		return err_set(e, -EINVAL, "'%.40s' is no number from 0 to 1000", val);
	st->postcopy = (int)n + 1;
	return 0;
}

static int parse_tls(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->tls = val;
	return 0;
}

static int parse_tls_hostname(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	st->tls_hostname = val;
	return 0;
}

static int parse_bandwidth(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return vm_parse_size(val, &st->bandwidth, e);
}

const struct opt migrate_opts[] = {
	{ "bandwidth", 0, "SIZE", "bytes a second at most, while the guest runs, with K, M or G [no limit]", NULL, .parse = parse_bandwidth },
	{ "downtime", 0, "MILLISECONDS", "how long the guest may stand still, as far as it can be foreseen [300]", NULL, .parse = parse_number },
	{ "auto-converge", 0, NULL, "slow the guest down if it writes faster than can be sent", NULL, .parse = parse_auto_converge },
	{ "compress", 0, NULL, "compress what is sent (zstd)", NULL, .parse = parse_compress },
	{ "streams", 0, "N", "memory goes over so many further connections, 1 to 16 [none]", NULL, .parse = parse_streams },
	{ "postcopy", 0, "ROUNDS", "after so many rounds over its memory the guest goes over, and the rest comes after it",
	  "When the guest's memory has been gone through so often (0: at once) the guest goes over with what there is, and what it wrote meanwhile comes after it: it waits "
	  "for a page that it touches before that one is there. So any guest comes over in about the time that its memory takes twice, however much it writes. From then on it lives "
	  "by both sides: if either ends before all is there, it is lost.", .parse = parse_postcopy },
	{ "resume", 0, NULL, "go on with one whose connection broke when the guest was there already (--postcopy)", NULL, .parse = parse_resume },
	{ "tls", 0, "DIR", "by TLS, to a destination that the CA in DIR has signed",
	  "The connection is encrypted, and both sides have certificates: here *client-cert.pem*, *client-key.pem* and *ca-cert.pem* (PEM) in the directory, there *lodge run --incoming-tls*. The "
	  "destination's certificate must have the host name of the address.", COMPLETE_FILE, .parse = parse_tls },
	{ "tls-hostname", 0, "NAME", "the name that the destination's certificate has [the address's]", NULL, .parse = parse_tls_hostname },
	{ "keep", 0, NULL, "leave the process that had the guest, standing still", NULL, .parse = parse_keep },
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};

const struct opt doctor_opts[] = {
	{ "help", 'h', NULL, "print this help", NULL, .parse = parse_help },
	{ NULL },
};
