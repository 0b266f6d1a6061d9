// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * -version, -help and the lists, in the form that callers read: libguestfs, packer and
 * others look for a version, for option names and for names of devices.
 */
#include <string.h>

#include "cpu/x86/cpuid.h"
#include "qemu/qemu.h"

/* The QEMU whose options and machine these are, as query-version has it. */
#define LIKE "7.2.0"

static void version(FILE *f)
{
	fprintf(f, "QEMU emulator version " LIKE " (lodge-%s)\nlodge-qemu: Lodge with the command line of QEMU\n", LODGE_VERSION);
}

static void help(FILE *f)
{
	version(f);
	fputs("usage: lodge-qemu [options] [disk_image]\n\n'disk_image' is a raw hard disk image for IDE hard disk 0\n\nStandard options:\n", f);
	for (const struct qemu_option *o = qemu_options; o->name; o++) {
		char left[600];

		if (!o->help)
			continue;
		snprintf(left, sizeof(left), "-%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		if (strlen(left) < 16 && !strchr(left, '\n'))
			fprintf(f, "%-15s %s\n", left, o->help);
		else
			fprintf(f, "%s\n                %s\n", left, o->help);
	}
	fputs("\nDuring emulation, the following keys are useful:\nctrl-a x        exits, on a console on standard input\n"
	      "\nWhat differs from QEMU is in lodge-qemu(1).\n", f);
}

static void machines(FILE *f)
{
	fputs("Supported machines are:\n"
	      "microvm              microvm (i386)\n"
	      "pc                   Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n"
	      "q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n"
	      "pc-q35-7.2           Standard PC (Q35 + ICH9, 2009) (default)\n"
	      "none                 empty machine\n", f);
}

static void feature(void *opaque, const char *name, int word, uint32_t bit)
{
	fprintf(opaque, " %s", name);
}

static void cpus(FILE *f)
{
	fputs("Available CPUs:\n"
	      "x86 host                  all that the accelerator and the host can do\n"
	      "x86 max                   all that the accelerator and the host can do (default)\n"
	      "x86 x86-64-v2             level of the psABI\n"
	      "x86 x86-64-v3             level of the psABI\n"
	      "x86 x86-64-v4             level of the psABI\n"
	      "x86 qemu64                (alias of x86-64-v2)\n"
	      "x86 kvm64                 (alias of x86-64-v2)\n"
	      "x86 Nehalem               (alias of x86-64-v2)\n"
	      "x86 Haswell               (alias of x86-64-v3)\n"
	      "x86 EPYC                  (alias of x86-64-v3)\n"
	      "x86 Skylake-Server        (alias of x86-64-v4)\n"
	      "\nRecognized CPUID flags:\n ", f);
	x86_feature_names(feature, f);
	fputc('\n', f);
}

static const struct {
	const char *name, *text;
} lists[] = {
	{ "accel", "Accelerators supported in QEMU binary:\ntcg\nkvm\n" },
	{ "netdev", "Available netdev backend types:\nuser\ntap\n" },
	{ "nic", "Available NIC models:\nvirtio\nvirtio-net-pci\ne1000e\n" },
	{ "chardev", "Available chardev backend types: \n  file\n  null\n  pty\n  qemu-vdagent\n  ringbuf\n  socket\n  stdio\n" },
	{ "vga", "none                 no graphic card\nstd                  standard VGA (default)\nvirtio               Virtio VGA\n" },
	{ "display", "Available display backend types:\nnone\nvnc\n" },
	{ "object", "List of user creatable objects:\n  authz-simple\n  iothread\n  memory-backend-file\n  memory-backend-memfd\n  memory-backend-ram\n"
	  "  rng-builtin\n  rng-random\n  secret\n  throttle-group\n  tls-creds-psk\n  tls-creds-x509\n" },
	{ "log", "Log items (comma separated): none\n" },
	{ "trace", "" },
	{ "fsdev", "Available fsdev drivers:\nlocal\n" },
	{ "virtfs", "Available fsdev drivers:\nlocal\n" },
	{ "tpmdev", "Supported TPM types (choose only one):\n   emulator   TPM emulator backend driver\n" },
	{ "audiodev", "Available audio drivers:\nnone\n" },
	{ "drive", "Supported formats: raw qcow2 luks vmdk vdi vhdx vpc\n" },
	{ "blockdev", "Supported drivers: blkdebug copy-on-read file host_cdrom host_device http https luks nbd null-aio null-co qcow2 raw throttle vdi vhdx vmdk vpc\n" },
};

static int list(const struct qemu *q, FILE *f)
{
	if (!strcmp(q->list, "machine"))
		return machines(f), 0;
	if (!strcmp(q->list, "cpu"))
		return cpus(f), 0;
	if (!strcmp(q->list, "device") && !q->list_arg)
		return device_list(f), 0;
	if (!strcmp(q->list, "device")) {
		if (!device_properties(q->list_arg, f))
			return 0;
		fprintf(stderr, "lodge-qemu: -device: '%.60s' is not a valid device model name; -device help lists those there are\n",
			q->list_arg);
		return 1;
	}
	for (unsigned i = 0; i < ARRAY_LEN(lists); i++)
		if (!strcmp(q->list, lists[i].name))
			fputs(lists[i].text, f);
	return 0;
}

int qemu_answer(const struct qemu *q, FILE *f)
{
	int ret = 0;

	if (q->ask == QEMU_VERSION)
		version(f);
	else if (q->ask == QEMU_HELP)
		help(f);
	else if (q->ask == QEMU_LIST)
		ret = list(q, f);
	return fflush(f) ? 1 : ret;
}
