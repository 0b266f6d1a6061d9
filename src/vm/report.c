// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the user reads when a guest ends badly, and the --stats lines.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "chardev/chardev.h"
#include "storage/disk.h"
#include "virtio/net.h"
#include "virtio/vsock.h"
#include "vm/internal.h"

static const char *const activity_name[] = { "running", "halted", "waiting for SIPI", "shut down" };

static void print_seg(const char *name, const struct x86_seg *s)
{
	fprintf(stderr, "  %-4s %04x base %016" PRIx64 " limit %08x attr %05x\r\n", name, s->sel, s->base, s->limit,
		s->attr);
}

static void print_regs(const struct x86_state *s)
{
	static const char *const gpr[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					     "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	static const char *const seg[X86_NSEG_ALL] = { "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };

	fprintf(stderr, "  rip %016" PRIx64 " rflags %08" PRIx64 "\r\n", s->rip, s->rflags);
	for (int i = 0; i < 16; i++)
		fprintf(stderr, "%s%-3s %016" PRIx64 "%s", i % 4 ? " " : "  ", gpr[i], s->gpr[i],
			i % 4 == 3 ? "\r\n" : "");
	fprintf(stderr, "  cr0 %08" PRIx64 " cr2 %016" PRIx64 " cr3 %016" PRIx64 " cr4 %08" PRIx64 "\r\n", s->cr0,
		s->cr2, s->cr3, s->cr4);
	fprintf(stderr, "  efer %04" PRIx64 " gdt %016" PRIx64 "/%04x idt %016" PRIx64 "/%04x\r\n", s->efer,
		s->gdtr.base, s->gdtr.limit, s->idtr.base, s->idtr.limit);
	for (int i = 0; i < X86_NSEG_ALL; i++)
		print_seg(seg[i], &s->seg[i]);
}

/* The engine's words, of one or more lines. */
static void print_text(const char *engine, char *text)
{
	char *save = NULL;

	fprintf(stderr, "  %s: ", engine);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		fprintf(stderr, "%s%s\r\n", line == text ? "" : "  ", line);
}

static void report_vcpu(struct vm *vm, unsigned id)
{
	struct vcpu *v = vm->m->vcpus[id];
	char text[16384] = "";
	struct x86_state s;

	if (vm->engine_ops->state_get(v, &s)) {
		fprintf(stderr, " vCPU %u: its state cannot be read\r\n", id);
		return;
	}
	fprintf(stderr, " vCPU %u: %s\r\n", id, s.activity <= X86_SHUTDOWN ? activity_name[s.activity] : "?");
	print_regs(&s);
	if (vm->engine_ops->report)
		vm->engine_ops->report(v, text, sizeof(text));
	if (text[0])
		print_text(vm->engine_ops->name, text);
}

/* Lines end in CR LF because the terminal may be raw. */
void vm_report(struct vm *vm, const char *what)
{
	fprintf(stderr, "\r\nlodge: %s\r\n", what);
	fprintf(stderr, " name %s, machine %s, engine %s, %u vCPU(s), %" PRIu64 " MiB\r\n", vm->cfg->name,
		vm->cfg->machine == VM_MACHINE_PC ? "pc" : "micro", vm->engine_ops->name, vm_config_n_cpus(vm->cfg),
		vm->cfg->memory >> 20);
	for (unsigned i = 0; i < vm->m->n_vcpus; i++)
		if (vm_has_cpu(vm, i))
			report_vcpu(vm, i);
}

/* A "Name:   123 kB" line of /proc/self/status, in KiB; 0 if it is not there. */
static uint64_t status_kib(const char *name)
{
	FILE *f = fopen("/proc/self/status", "re");
	size_t len = strlen(name);
	uint64_t kib = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && line[len] == ':')
			sscanf(line + len + 1, "%" SCNu64, &kib);
	if (f)
		fclose(f);
	return kib;
}

struct stat_sink {
	void (*fn)(void *opaque, const char *name, uint64_t value);
	void *opaque;
};

static void stat_one(const struct stat_sink *to, const char *name, uint64_t value)
{
	to->fn(to->opaque, name, value);
}

/* KiB of memory behind the mappings of memory files of this name: of all mappings, and of the largest. */
static void mapped_kib(const char *name, uint64_t *all, uint64_t *most)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	bool inside = false;
	char line[512];
	uint64_t kib;

	*all = *most = 0;
	while (f && fgets(line, sizeof(line), f)) {
		uint64_t from, to;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2) {
			inside = strstr(line, name);
		} else if (inside && sscanf(line, "Rss: %" SCNu64, &kib) == 1) {
			*all += kib;
			*most = kib > *most ? kib : *most;
		}
	}
	if (f)
		fclose(f);
}

/* The code cache is shared memory, as the guest's is, and mapped twice. */
static void stat_memory(const struct stat_sink *to)
{
	uint64_t all, most, shared = status_kib("RssShmem");
	uint64_t anon = status_kib("RssAnon"), file = status_kib("RssFile");

	mapped_kib("/memfd:lodge-code", &all, &most);
	stat_one(to, "guest_ram_resident_kib", shared - (all < shared ? all : shared));
	stat_one(to, "vmm_resident_kib", anon + file + most);
	stat_one(to, "vmm_anonymous_kib", anon);
	stat_one(to, "vmm_code_cache_kib", most);
}

static void stat_dev(const struct stat_sink *to, const char *dev, unsigned n, const char *what, uint64_t value)
{
	char name[96];

	snprintf(name, sizeof(name), "%s%u_%s", dev, n, what);
	stat_one(to, name, value);
}

static void stat_disk_op(const struct stat_sink *to, unsigned n, unsigned kind, const struct disk_op_stats *s)
{
	const char *op = disk_op_name(kind);
	char what[64];

	if (!s->count)
		return;
	snprintf(what, sizeof(what), "%s_us_total", op);
	stat_dev(to, "disk", n, what, s->total_ns / 1000);
	snprintf(what, sizeof(what), "%s_us_max", op);
	stat_dev(to, "disk", n, what, s->max_ns / 1000);
	for (unsigned b = 0; b < DISK_BUCKETS; b++) {
		uint64_t end = disk_bucket_end_us(b);

		if (end)
			snprintf(what, sizeof(what), "%s_us_below_%" PRIu64, op, end);
		else
			snprintf(what, sizeof(what), "%s_us_above", op);
		if (s->latency[b])
			stat_dev(to, "disk", n, what, s->latency[b]);
	}
}

static void stat_disk(const struct stat_sink *to, unsigned n, struct disk *d)
{
	struct disk_stats s;

	disk_get_stats(d, &s);
	stat_dev(to, "disk", n, "reads", s.op[DISK_READS].count);
	stat_dev(to, "disk", n, "read_bytes", s.op[DISK_READS].bytes);
	stat_dev(to, "disk", n, "writes", s.op[DISK_WRITES].count);
	stat_dev(to, "disk", n, "written_bytes", s.op[DISK_WRITES].bytes);
	stat_dev(to, "disk", n, "flushes", s.op[DISK_FLUSHES].count);
	stat_dev(to, "disk", n, "discards", s.op[DISK_DISCARDS].count);
	stat_dev(to, "disk", n, "discarded_bytes", s.op[DISK_DISCARDS].bytes);
	stat_dev(to, "disk", n, "write_zeroes", s.op[DISK_ZEROES].count);
	stat_dev(to, "disk", n, "zeroed_bytes", s.op[DISK_ZEROES].bytes);
	stat_dev(to, "disk", n, "invalid", s.invalid);
	stat_dev(to, "disk", n, "errors", s.errors);
	stat_dev(to, "disk", n, "retried", s.retried);
	stat_dev(to, "disk", n, "in_flight", s.in_flight);
	stat_dev(to, "disk", n, "in_flight_max", s.max_in_flight);
	for (unsigned k = 0; k < DISK_KINDS; k++)
		stat_disk_op(to, n, k, &s.op[k]);
}

static void stat_net(const struct stat_sink *to, const struct vm *vm, unsigned n)
{
	struct virtio_net_stats s;

	if (!vm_net_stats(vm, n, &s))
		return;
	stat_dev(to, "net", n, "rx_packets", s.rx_packets);
	stat_dev(to, "net", n, "rx_bytes", s.rx_bytes);
	stat_dev(to, "net", n, "rx_dropped", s.rx_dropped);
	stat_dev(to, "net", n, "tx_packets", s.tx_packets);
	stat_dev(to, "net", n, "tx_bytes", s.tx_bytes);
	stat_dev(to, "net", n, "tx_dropped", s.tx_dropped);
	stat_dev(to, "net", n, "tx_bad", s.tx_bad);
}

static void stat_vsock(const struct stat_sink *to, const struct vm *vm)
{
	struct virtio_vsock_stats s;

	virtio_vsock_get_stats(vm->vsock, &s);
	stat_dev(to, "vsock", 0, "connections_from_guest", s.from_guest);
	stat_dev(to, "vsock", 0, "connections_from_host", s.from_host);
	stat_dev(to, "vsock", 0, "refused", s.refused);
	stat_dev(to, "vsock", 0, "reset", s.reset);
	stat_dev(to, "vsock", 0, "rx_bytes", s.rx_bytes);
	stat_dev(to, "vsock", 0, "tx_bytes", s.tx_bytes);
	stat_dev(to, "vsock", 0, "tx_bad", s.bad);
}

/* Machine lock held. */
void vm_stats(struct vm *vm, void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	const struct stat_sink sink = { fn, opaque }, *to = &sink;
	struct rusage ru;

	stat_one(to, "run_ms", (uint64_t)(loop_now_ns() - vm->run_start_ns) / 1000000);
	if (vm->cfg->start_ns && vm->first_insn_ns > vm->cfg->start_ns)
		stat_one(to, "start_to_first_instruction_us", (uint64_t)(vm->first_insn_ns - vm->cfg->start_ns) / 1000);
	if (!getrusage(RUSAGE_SELF, &ru)) {
		stat_one(to, "cpu_user_ms", (uint64_t)ru.ru_utime.tv_sec * 1000 + (uint64_t)ru.ru_utime.tv_usec / 1000);
		stat_one(to, "cpu_system_ms", (uint64_t)ru.ru_stime.tv_sec * 1000 + (uint64_t)ru.ru_stime.tv_usec / 1000);
	}
	stat_memory(to);
	if (vm->engine_ops->stats)
		vm->engine_ops->stats(vm->engine, fn, opaque);
	for (unsigned i = 0; i < VM_MAX_DISKS; i++)
		if (vm->disk[i])
			stat_disk(to, i, vm->disk[i]);
	for (unsigned i = 0; i < VM_MAX_NETS; i++)
		stat_net(to, vm, i);
	if (vm->vsock)
		stat_vsock(to, vm);
}

static void print_stat(void *opaque, const char *name, uint64_t value)
{
	fprintf(stderr, "lodge: stats: %s %" PRIu64 "\n", name, value);
}

/* The vCPUs have ended, the devices are still there. */
void vm_print_stats(struct vm *vm)
{
	chardev_stdio_restore();
	machine_lock(vm->m);
	vm_stats(vm, print_stat, NULL);
	machine_unlock(vm->m);
}
