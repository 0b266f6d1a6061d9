// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * human-monitor-command: the words that people and scripts give QEMU's monitor.
 *
 * A line is a name and its words.  What QMP has, too, is done by QMP's handlers, on
 * a call without a client; an answer is text, an error "Error: ..." as QEMU says.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/disk.h"
#include "control/hmp.h"

struct hmp_command {
	const char *name, *alias, *args, *help;
	int min;			/* words behind the name */
	void (*run)(struct hmp *h);
};

json_t *hmp_qmp(struct hmp *h, const char *name, json_t *args)
{
	const struct ctl_command *cmd = ctl_find_command(name);
	struct ctl_call c = { .ctl = h->ctl, .args = args ? args : json_object() };

	if (ctl_check(cmd->args, c.args, "", &c.e))
		c.failed = true;
	else
		cmd->run(&c, c.args);
	json_decref(c.args);
	if (c.failed) {
		fprintf(h->out, "Error: %s\r\n", c.e.msg);
		json_decref(c.ret);
		return NULL;
	}
	return c.ret ? c.ret : json_object();
}

void hmp_just(struct hmp *h, const char *name, json_t *args)
{
	json_decref(hmp_qmp(h, name, args));
}

const char *hmp_text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

long long hmp_number(const json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

/* A number with a unit; without one it counts `unit` bytes. -1: it is none. */
static long long size_of(const char *word, long long unit)
{
	static const char units[] = "BKMGT";
	const char *u;
	long long n;
	char *end;

	errno = 0;
	n = strtoll(word, &end, 0);
	u = *end ? strchr(units, *end & ~0x20) : NULL;
	if (end == word || errno || n < 0 || (*end && (!u || end[1])))
		return -1;
	if (u)
		unit = 1ll << (10 * (u - units));
	return __builtin_mul_overflow(n, unit, &n) ? -1 : n;
}

/* ---- info ---- */

static void info_status(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-status", NULL);
	bool runs = json_is_true(json_object_get(j, "running"));

	fprintf(h->out, "VM status: %s", runs ? "running" : "paused");
	if (!runs && strcmp(hmp_text(j, "status"), "paused"))
		fprintf(h->out, " (%s)", hmp_text(j, "status"));
	fputs("\r\n", h->out);
	json_decref(j);
}

static void info_name(struct hmp *h)
{
	fprintf(h->out, "%s\r\n", vm_config_of(h->ctl->vm)->name);
}

static void info_version(struct hmp *h)
{
	fprintf(h->out, "7.2.0 (lodge-%s)\r\n", LODGE_VERSION);
}

static void info_kvm(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-kvm", NULL);

	fprintf(h->out, "kvm support: %s\r\n", json_is_true(json_object_get(j, "enabled")) ? "enabled" : "disabled");
	json_decref(j);
}

static void info_uuid(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-uuid", NULL);

	fprintf(h->out, "%s\r\n", hmp_text(j, "UUID"));
	json_decref(j);
}

static void info_balloon(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-balloon", NULL);

	if (j)
		fprintf(h->out, "balloon: actual=%lld\r\n", hmp_number(j, "actual") >> 20);
	json_decref(j);
}

static void info_block(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-block", NULL), *x;
	size_t i;

	json_array_foreach(all, i, x) {
		json_t *in = json_object_get(x, "inserted");

		if (!in) {
			fprintf(h->out, "%s%s: [not inserted]\r\n", i ? "\r\n" : "", hmp_text(x, "device"));
			continue;
		}
		fprintf(h->out, "%s%s (%s): %s (%s%s)\r\n", i ? "\r\n" : "", hmp_text(x, "device"), hmp_text(in, "node-name"), hmp_text(in, "file"),
			hmp_text(in, "drv"), json_is_true(json_object_get(in, "ro")) ? ", read-only" : "");
		if (json_object_get(in, "backing_file"))
			fprintf(h->out, "    Backing file:     %s (chain depth: %lld)\r\n", hmp_text(in, "backing_file"),
				hmp_number(in, "backing_file_depth"));
	}
	json_decref(all);
}

static void info_blockstats(struct hmp *h)
{
	static const char *const keys[] = { "rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations",
					    "wr_total_time_ns", "rd_total_time_ns", "flush_total_time_ns" };
	json_t *all = hmp_qmp(h, "query-blockstats", NULL), *x;
	size_t i;

	json_array_foreach(all, i, x) {
		json_t *s = json_object_get(x, "stats");

		fprintf(h->out, "%s:", hmp_text(x, "device"));
		for (unsigned k = 0; k < ARRAY_LEN(keys); k++)
			fprintf(h->out, " %s=%lld", keys[k], hmp_number(s, keys[k]));
		fputs("\r\n", h->out);
	}
	json_decref(all);
}

static void info_jobs(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-block-jobs", NULL), *x;
	size_t i;

	if (!json_array_size(all))
		fputs("No active jobs\r\n", h->out);
	json_array_foreach(all, i, x)
		fprintf(h->out, "Type %s, device %s: Completed %lld of %lld bytes, speed limit %lld bytes/s\r\n", hmp_text(x, "type"),
			hmp_text(x, "device"), hmp_number(x, "offset"), hmp_number(x, "len"), hmp_number(x, "speed"));
	json_decref(all);
}

static void info_network(struct hmp *h)
{
	static const char *const kinds[] = { [VM_NET_USER] = "user", [VM_NET_TAP] = "tap", [VM_NET_NONE] = "none" };
	const struct vm_config *cfg = vm_config_of(h->ctl->vm);

	for (unsigned i = 0; i < cfg->n_nets; i++) {
		const uint8_t *m = cfg->net[i].mac;

		if (cfg->net[i].kind != VM_NET_NONE)
			fprintf(h->out, "net%u: type=nic,model=%s,macaddr=%02x:%02x:%02x:%02x:%02x:%02x\r\n \\ type=%s\r\n", i,
				cfg->net[i].model == VM_NIC_E1000E ? "e1000e" : "virtio-net", m[0],
				m[1], m[2], m[3], m[4], m[5], kinds[cfg->net[i].kind]);
	}
}

static void info_cpus(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-cpus-fast", NULL), *x;
	size_t i;

	json_array_foreach(all, i, x)
		fprintf(h->out, "%c CPU #%lld: thread_id=%lld\r\n", hmp_number(x, "cpu-index") == (long long)h->cpu ? '*' : ' ', hmp_number(x, "cpu-index"), hmp_number(x, "thread-id"));
	json_decref(all);
}

static void info_hotpluggable_cpus(struct hmp *h)
{
	static const char *const names[] = { "node-id", "socket-id", "die-id", "core-id", "thread-id" };
	json_t *all = hmp_qmp(h, "query-hotpluggable-cpus", NULL), *x, *p;
	size_t i;

	fputs("Hotpluggable CPUs:\r\n", h->out);
	json_array_foreach(all, i, x) {
		p = json_object_get(x, "props");
		fprintf(h->out, "  type: \"%s\"\r\n  vcpus_count: \"%lld\"\r\n", hmp_text(x, "type"), hmp_number(x, "vcpus-count"));
		if (json_object_get(x, "qom-path"))
			fprintf(h->out, "  qom_path: \"%s\"\r\n", hmp_text(x, "qom-path"));
		fputs("  CPUInstance Properties:\r\n", h->out);
		for (unsigned k = 0; k < ARRAY_LEN(names); k++)
			if (json_object_get(p, names[k]))
				fprintf(h->out, "    %s: \"%lld\"\r\n", names[k], hmp_number(p, names[k]));
	}
	json_decref(all);
}

static void info_chardev(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-chardev", NULL), *x;
	size_t i;

	json_array_foreach(all, i, x)
		fprintf(h->out, "%s: filename=%s\r\n", hmp_text(x, "label"), hmp_text(x, "filename"));
	json_decref(all);
}

static void print_registers(FILE *f, const struct x86_state *s)
{
	static const char *const gpr[16] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
					     "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15" };
	static const char *const seg[] = { "ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR" };
	static const uint8_t order[16] = { 0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15 };

	for (unsigned i = 0; i < 16; i++)
		fprintf(f, "%s=%016" PRIx64 "%s", gpr[order[i]], s->gpr[order[i]], i % 4 == 3 ? "\r\n" : " ");
	fprintf(f, "RIP=%016" PRIx64 " RFL=%08" PRIx64 " HLT=%d\r\n", s->rip, s->rflags, s->activity == X86_HALTED);
	for (unsigned i = 0; i < ARRAY_LEN(seg) && i < X86_NSEG_ALL; i++)
		fprintf(f, "%-3s=%04x %016" PRIx64 " %08x %08x\r\n", seg[i], s->seg[i].sel, s->seg[i].base, s->seg[i].limit, s->seg[i].attr);
	fprintf(f, "GDT=     %016" PRIx64 " %08x\r\nIDT=     %016" PRIx64 " %08x\r\n", s->gdtr.base, s->gdtr.limit, s->idtr.base,
		s->idtr.limit);
	fprintf(f, "CR0=%08" PRIx64 " CR2=%016" PRIx64 " CR3=%016" PRIx64 " CR4=%08" PRIx64 "\r\nEFER=%016" PRIx64 "\r\n", s->cr0, s->cr2,
		s->cr3, s->cr4, s->efer);
}

/* Of one CPU, or with -a of all. */
static void info_registers(struct hmp *h)
{
	bool all = h->n > 2 && !strcmp(h->word[2], "-a");
	struct x86_state s;

	for (unsigned i = all ? 0 : h->cpu; i < (all ? h->ctl->m->n_vcpus : h->cpu + 1); i++) {
		int ret = vm_vcpu_state(h->ctl->vm, i, &s);

		if (all && ret == -ENODEV)
			continue;
		if (ret == -EBUSY)
			fputs("Error: registers can be read while the guest stands still: stop it first\r\n", h->out);
		else if (ret)
			fprintf(h->out, "Error: the registers of CPU %u cannot be read: %s\r\n", i, strerror(-ret));
		if (ret)
			return;
		fprintf(h->out, "\r\nCPU#%u\r\n", i);
		print_registers(h->out, &s);
	}
}

static void info_generation(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-vm-generation-id", NULL);

	if (j)
		fprintf(h->out, "%s\r\n", hmp_text(j, "guid"));
	json_decref(j);
}

static void info_tpm(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-tpm", NULL), *x;
	size_t i;

	fputs(json_array_size(all) ? "TPM device:\r\n" : "No TPM device\r\n", h->out);
	json_array_foreach(all, i, x)
		fprintf(h->out, " %s: model=%s\r\n  \\ %s: type=%s\r\n", hmp_text(x, "id"), hmp_text(x, "model"), hmp_text(x, "id"),
			hmp_text(json_object_get(x, "options"), "type"));
	json_decref(all);
}

static const struct hmp_command infos[] = {
	{ "balloon", NULL, "", "memory the balloon leaves the guest", 0, info_balloon },
	{ "block", NULL, "", "disks", 0, info_block },
	{ "block-jobs", "jobs", "", "jobs on disks", 0, info_jobs },
	{ "blockstats", NULL, "", "what disks have counted", 0, info_blockstats },
	{ "chardev", NULL, "", "consoles", 0, info_chardev },
	{ "cpus", NULL, "", "CPUs and their threads", 0, info_cpus },
	{ "hotpluggable-cpus", NULL, "", "CPUs there are, and may be", 0, info_hotpluggable_cpus },
	{ "kvm", NULL, "", "whether KVM is used", 0, info_kvm },
	{ "memdev", NULL, "", "what the guest's memory is made of", 0, hmp_info_memdev },
	{ "memory-devices", NULL, "", "memory that comes and goes", 0, hmp_info_memory_devices },
	{ "memory_size_summary", NULL, "", "how much memory the guest has", 0, hmp_info_memory_size_summary },
	{ "mice", NULL, "", "mice and tablets", 0, hmp_info_mice },
	{ "migrate", NULL, "", "how the last migration goes, or went", 0, hmp_info_migrate },
	{ "migrate_capabilities", NULL, "", "what of migration is turned on", 0, hmp_info_migrate_capabilities },
	{ "migrate_parameters", NULL, "", "limits of migration", 0, hmp_info_migrate_parameters },
	{ "name", NULL, "", "the guest's name", 0, info_name },
	{ "network", NULL, "", "network cards", 0, info_network },
	{ "numa", NULL, "", "nodes of memory", 0, hmp_info_numa },
	{ "pci", NULL, "", "PCI cards and what else is on the buses", 0, hmp_info_pci },
	{ "registers", NULL, "[-a]", "registers of a CPU, or of all", 0, info_registers },
	{ "snapshots", NULL, "", "snapshots of the guest inside its disks", 0, hmp_info_snapshots },
	{ "status", NULL, "", "whether the guest runs", 0, info_status },
	{ "tpm", NULL, "", "the TPM", 0, info_tpm },
	{ "uuid", NULL, "", "the guest's UUID", 0, info_uuid },
	{ "version", NULL, "", "the version", 0, info_version },
	{ "vnc", NULL, "", "the VNC server and its clients", 0, hmp_info_vnc },
	{ "vm-generation-id", NULL, "", "the VM generation ID", 0, info_generation },
};

static const struct hmp_command *find(const struct hmp_command *t, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(t[i].name, name) || (t[i].alias && !strcmp(t[i].alias, name)))
			return &t[i];
	return NULL;
}

static void list(FILE *f, const struct hmp_command *t, size_t n, const char *before)
{
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s%s%s%s%s%s -- %s\r\n", before, t[i].name, t[i].alias ? "|" : "", t[i].alias ? t[i].alias : "",
			*t[i].args ? " " : "", t[i].args, t[i].help);
}

static void do_info(struct hmp *h)
{
	const struct hmp_command *i = h->n > 1 ? find(infos, ARRAY_LEN(infos), h->word[1]) : NULL;

	if (i)
		i->run(h);
	else
		list(h->out, infos, ARRAY_LEN(infos), "info ");
}

/* ---- commands ---- */

static void do_stop(struct hmp *h) { hmp_just(h, "stop", NULL); }
static void do_cont(struct hmp *h) { hmp_just(h, "cont", NULL); }
static void do_quit(struct hmp *h) { hmp_just(h, "quit", NULL); }
static void do_reset(struct hmp *h) { hmp_just(h, "system_reset", NULL); }
static void do_powerdown(struct hmp *h) { hmp_just(h, "system_powerdown", NULL); }
static void do_nmi(struct hmp *h) { hmp_just(h, "inject-nmi", NULL); }

static void do_watchdog_action(struct hmp *h)
{
	hmp_just(h, "watchdog-set-action", json_pack("{s:s+}", "action", h->word[1], ""));
}

static void do_balloon(struct hmp *h)
{
	long long n = size_of(h->word[1], 1 << 20);

	if (n < 0)
		fprintf(h->out, "Error: '%s' is not a size\r\n", h->word[1]);
	else
		hmp_just(h, "balloon", json_pack("{s:I}", "value", (json_int_t)n));
}

static void do_block_resize(struct hmp *h)
{
	long long n = size_of(h->word[2], 1 << 20);

	if (n < 0)
		fprintf(h->out, "Error: '%s' is not a size\r\n", h->word[2]);
	else
		hmp_just(h, "block_resize", json_pack("{s:s+,s:I}", "device", h->word[1], "", "size", (json_int_t)n));
}

static void do_set_link(struct hmp *h)
{
	if (strcmp(h->word[2], "on") && strcmp(h->word[2], "off"))
		fputs("Error: it is on or off\r\n", h->out);
	else
		hmp_just(h, "set_link", json_pack("{s:s+,s:b}", "name", h->word[1], "", "up", !strcmp(h->word[2], "on")));
}

static void do_job_cancel(struct hmp *h) { hmp_just(h, "block-job-cancel", json_pack("{s:s+}", "device", h->word[1], "")); }
static void do_job_complete(struct hmp *h) { hmp_just(h, "block-job-complete", json_pack("{s:s+}", "device", h->word[1], "")); }

static void do_snapshot(struct hmp *h)
{
	hmp_just(h, "blockdev-snapshot-sync", json_pack("{s:s+,s:s+}", "device", h->word[1], "", "snapshot-file", h->word[2], ""));
}

static void do_eject(struct hmp *h)
{
	bool force = !strcmp(h->word[1], "-f");

	if (force && h->n < 3)
		fputs("usage: eject [-f] DRIVE\r\n", h->out);
	else
		hmp_just(h, "eject", json_pack("{s:s+,s:b}", "device", h->word[force ? 2 : 1], "", "force", force));
}

/* change [-f] DRIVE FILE [FORMAT [MODE]] */
static void do_change(struct hmp *h)
{
	int f = !strcmp(h->word[1], "-f");
	json_t *args;

	if (!strcmp(h->word[1], "vnc")) {
		hmp_change_password(h);
		return;
	}
	if (h->n < 3 + f) {
		fputs("usage: change [-f] DRIVE FILE [FORMAT [MODE]]\r\n", h->out);
		return;
	}
	args = json_pack("{s:s+,s:s+,s:b}", "device", h->word[1 + f], "", "filename", h->word[2 + f], "", "force", f);
	if (h->n > 3 + f)
		json_object_set_new(args, "format", json_string(h->word[3 + f]));
	if (h->n > 4 + f)
		json_object_set_new(args, "read-only-mode", json_string(h->word[4 + f]));
	hmp_just(h, "blockdev-change-medium", args);
}

static void do_help(struct hmp *h);

static const struct hmp_command commands[] = {
	{ "balloon", NULL, "MIB", "asks the guest to make do with so much memory", 1, do_balloon },
	{ "block_job_cancel", NULL, "JOB", "ends a job", 1, do_job_cancel },
	{ "block_job_complete", NULL, "JOB", "ends a job that is ready", 1, do_job_complete },
	{ "block_job_pause", NULL, "JOB", "has a job stand still", 1, hmp_job_pause },
	{ "block_job_resume", NULL, "JOB", "lets it go on", 1, hmp_job_resume },
	{ "block_job_set_speed", NULL, "JOB BYTES", "limits a job", 2, hmp_job_set_speed },
	{ "block_stream", NULL, "DISK [SPEED [BASE]]", "has a disk's image do without what is below it", 1, hmp_block_stream },
	{ "block_resize", NULL, "DISK SIZE", "changes the size of a disk", 2, do_block_resize },
	{ "change", NULL, "[-f] DRIVE FILE [FORMAT [MODE]] | vnc password PASSWORD", "puts another medium into a drive; changes VNC's password", 2,
	  do_change },
	{ "chardev-add", NULL, "KIND,id=ID[,...]", "makes a chardev: file, socket, pty, null, ringbuf or mux", 1, hmp_chardev_add },
	{ "chardev-change", NULL, "ID KIND[,...]", "puts another one in a chardev's place", 2, hmp_chardev_change },
	{ "chardev-remove", NULL, "ID", "takes a chardev away that nobody uses", 1, hmp_chardev_remove },
	{ "chardev-send-break", NULL, "ID", "a break condition for who uses a chardev", 1, hmp_chardev_send_break },
	{ "cont", "c", "", "lets the guest go on", 0, do_cont },
	{ "delvm", NULL, "TAG", "forgets a snapshot of the guest", 1, hmp_delvm },
	{ "device_add", NULL, "DRIVER[,id=ID][,bus=BUS][,PROPERTY=VALUE]...", "plugs a device in", 1, hmp_device_add },
	{ "device_del", NULL, "ID", "takes a device out, or asks the guest to let it go", 1, hmp_device_del },
	{ "drive_add", NULL, "[ADDRESS] if=none,id=ID,file=FILE[,PROPERTY=VALUE]...", "names an image for device_add", 1, hmp_drive_add },
	{ "drive_del", NULL, "ID", "forgets it", 1, hmp_drive_del },
	{ "drive_backup", NULL, "[-n] [-f] DISK TARGET [FORMAT]", "copies a disk as it is now", 2, hmp_drive_backup },
	{ "drive_mirror", NULL, "[-n] [-f] DISK TARGET [FORMAT]", "copies a disk, and what is written to it", 2, hmp_drive_mirror },
	{ "eject", NULL, "[-f] DRIVE", "takes the medium out of a drive", 1, do_eject },
	{ "help", "?", "", "prints this", 0, do_help },
	{ "info", NULL, "WHAT", "tells of the guest", 0, do_info },
	{ "loadvm", NULL, "TAG", "has the guest go back to a snapshot", 1, hmp_loadvm },
	{ "migrate", NULL, "[-d] [-r] URI", "has the guest go on in another process; -r: goes on with one that has paused", 1, hmp_migrate },
	{ "migrate_cancel", NULL, "", "gives a migration up", 0, hmp_migrate_cancel },
	{ "migrate_continue", NULL, "STATE", "has a guest go over that stands still before that; STATE is pre-switchover", 1, hmp_migrate_continue },
	{ "migrate_pause", NULL, "", "breaks the connection of a migration whose memory comes after its guest", 0, hmp_migrate_pause },
	{ "migrate_recover", NULL, "URI", "where a migration that has paused goes on", 1, hmp_migrate_recover },
	{ "migrate_start_postcopy", NULL, "", "has the guest go over now, and the rest of its memory after it", 0, hmp_migrate_start_postcopy },
	{ "migrate_incoming", NULL, "URI", "where to wait for a guest", 1, hmp_migrate_incoming },
	{ "migrate_set_capability", NULL, "NAME on|off", "turns a part of migration on or off", 2, hmp_migrate_set_capability },
	{ "migrate_set_parameter", NULL, "NAME VALUE", "sets a limit of migration; max-bandwidth is in MiB", 2, hmp_migrate_set_parameter },
	{ "mouse_button", NULL, "STATE", "which buttons are down: 1 left, 2 middle, 4 right", 1, hmp_mouse_button },
	{ "mouse_move", NULL, "DX DY [DZ]", "moves the mouse, and its wheel", 2, hmp_mouse_move },
	{ "netdev_add", NULL, "user|tap,id=ID[,PROPERTY=VALUE]...", "makes a network for a card", 1, hmp_netdev_add },
	{ "netdev_del", NULL, "ID", "takes it away again", 1, hmp_netdev_del },
	{ "nmi", NULL, "", "gives every CPU an NMI", 0, do_nmi },
	{ "qom-get", NULL, "PATH PROPERTY", "a property of a memory device or a throttle group", 2, hmp_qom_get },
	{ "qom-set", NULL, "PATH PROPERTY VALUE", "sets it", 3, hmp_qom_set },
	{ "quit", "q", "", "ends the guest at once", 0, do_quit },
	{ "savevm", NULL, "[TAG]", "saves the guest inside its disks", 0, hmp_savevm },
	{ "screendump", NULL, "FILE [-f ppm|png] [DEVICE [HEAD]]", "writes a picture of the screen", 1, hmp_screendump },
	{ "sendkey", NULL, "KEYS [HOLD_MS]", "presses keys, as in ctrl-alt-f1", 1, hmp_sendkey },
	{ "set_link", NULL, "CARD on|off", "plugs a cable in or pulls it out", 2, do_set_link },
	{ "snapshot_blkdev", NULL, "DISK FILE", "puts a new file over a disk", 2, do_snapshot },
	{ "stop", "s", "", "has the guest stand still", 0, do_stop },
	{ "system_powerdown", NULL, "", "presses the power button", 0, do_powerdown },
	{ "system_reset", NULL, "", "resets the machine", 0, do_reset },
	{ "watchdog_action", NULL, "ACTION", "what comes of a watchdog that runs out", 1, do_watchdog_action },
};

static void do_help(struct hmp *h)
{
	list(h->out, commands, ARRAY_LEN(commands), "");
}

/* ---- completion ---- */

struct choices {
	FILE *f;
	size_t n, common;		/* how many there are, and how many characters they have in common */
	const char *first;
};

static void consider(struct choices *c, const char *name, const char *start, size_t len)
{
	size_t same = 0;

	if (strncmp(name, start, len))
		return;
	if (!c->n++) {
		c->first = name;
		c->common = strlen(name);
	}
	while (same < c->common && name[same] == c->first[same])
		same++;
	c->common = same;
	fprintf(c->f, "%s%s", c->n > 1 ? " " : "", name);
}

bool hmp_complete(const char *before, char **insert, char **choices)
{
	bool info = !strncmp(before, "info ", 5);
	const struct hmp_command *t = info ? infos : commands;
	const char *start = before + (info ? 5 : 0);
	struct choices c = { 0 };
	size_t len = strlen(start), n = info ? ARRAY_LEN(infos) : ARRAY_LEN(commands), size;

	*insert = *choices = NULL;
	c.f = strchr(start, ' ') ? NULL : open_memstream(choices, &size);
	if (!c.f)
		return false;
	for (size_t i = 0; i < n; i++)
		consider(&c, t[i].name, start, len);
	fputs("\r\n", c.f);
	fclose(c.f);
	if (*choices && (c.n == 1 || c.common > len))
		(*choices)[0] = '\0';
	if (c.n && *choices && asprintf(insert, "%.*s%s", (int)(c.common - len), c.first + len, c.n == 1 ? " " : "") >= 0)
		return true;
	free(*choices);
	return false;
}

/* ---- lines ---- */

/* A word, or what is between quotes, with \\ before a quote or itself, n or r; NULL: there is none.  Changes the text. */
static char *next_word(char **at)
{
	char *from = *at + strspn(*at, " \t"), *to = from, *word = from;
	bool quoted = *from == '"';

	if (!*from)
		return NULL;
	for (from += quoted; *from && (quoted ? *from != '"' : *from != ' ' && *from != '\t'); from++) {
		if (quoted && *from == '\\' && from[1])
			from++, *to++ = *from == 'n' ? '\n' : *from == 'r' ? '\r' : *from;
		else
			*to++ = *from;
	}
	*at = from + (*from != '\0');
	*to = '\0';
	return word;
}

static void run(struct hmp *h)
{
	const struct hmp_command *c = h->n ? find(commands, ARRAY_LEN(commands), h->word[0]) : NULL;

	if (!h->n)
		return;
	if (!c)
		fprintf(h->out, "unknown command: '%s'\r\n", h->word[0]);
	else if (h->n - 1 < c->min)
		fprintf(h->out, "usage: %s %s\r\n", c->name, c->args);
	else
		c->run(h);
}

void hmp_finish(struct hmp *h)
{
	if (h->out)
		fclose(h->out);
	h->done(h->opaque, h->text);
	free(h->line);
	free(h);
}

void hmp_line(struct control *ctl, const char *text, unsigned cpu, void (*done)(void *opaque, char *text), void *opaque)
{
	struct hmp *h = calloc(1, sizeof(*h));
	char *at, *w;

	if (!h) {
		done(opaque, NULL);
		return;
	}
	*h = (struct hmp){ .ctl = ctl, .cpu = cpu, .done = done, .opaque = opaque };
	at = h->line = strdup(text);
	h->out = h->line ? open_memstream(&h->text, &h->len) : NULL;
	if (h->out) {
		while (h->n < HMP_MAX_WORDS && (w = next_word(&at)))
			h->word[h->n++] = w;
		run(h);
	}
	if (!h->waits)
		hmp_finish(h);
}

/* A line that a client waits for. */
struct answering {
	struct ctl_call *c;		/* NULL: nobody, or not yet */
	char *text;
	bool done, late;
};

static void on_text(void *opaque, char *text)
{
	struct answering *a = opaque;

	a->text = text;
	a->done = true;
	if (!a->late)
		return;
	if (a->c && text)
		ctl_return(a->c, json_string(text));
	else if (a->c)
		ctl_fail(a->c, CTL_GENERIC_ERROR, "out of memory");
	if (a->c)
		ctl_answer(a->c);
	free(text);
	free(a);
}

void ctl_cmd_human_monitor_command(struct ctl_call *c, const struct ctl_args_human_monitor_command *a)
{
	struct answering *w;

	if (a->has_cpu_index && (a->cpu_index < 0 || a->cpu_index >= c->ctl->m->n_vcpus || !vm_has_cpu(c->ctl->vm, (unsigned)a->cpu_index))) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter 'cpu-index' expects a CPU number");
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
		return;
	}
	hmp_line(c->ctl, a->command_line, (unsigned)a->cpu_index, on_text, w);
	if (!w->done) {
		w->late = true;
		w->c = ctl_defer(c, &c->ctl->lines);
		return;
	}
	if (w->text)
		ctl_return(c, json_string(w->text));
	else
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
	free(w->text);
	free(w);
}

