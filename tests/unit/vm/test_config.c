// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The configuration tree and its checks.  Promise: whatever the user writes is
 * either taken exactly, or refused with a message that names it; the dump reads
 * back as the same tree.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "vm/conf.h"
#include "vm/config.h"
#include "vm/firmware.h"
#include "vm/rom.h"

static struct conf *conf_of(const char *const *pairs)
{
	struct conf *c;

	assert_int_equal(conf_new(&c), 0);
	for (; pairs[0]; pairs += 2)
		assert_int_equal(conf_set(c, pairs[0], pairs[1], NULL), 0);
	return c;
}

/* Checks that the one pair (beside a kernel) is refused with `text` in the message. */
static void refused(const char *key, const char *value, const char *text)
{
	struct vm_config cfg;
	struct err e = { 0 };
	struct conf *c = conf_of((const char *[]){ "kernel", "k", key, value, NULL });

	assert_true(vm_config_from(c, &cfg, &e) < 0);
	if (!strstr(e.msg, text))
		fail_msg("'%s = %s' gave '%s', which lacks '%s'", key, value, e.msg, text);
	conf_free(c);
}

static void test_sizes(void **state)
{
	static const struct { const char *text; uint64_t bytes; } good[] = {
		{ "512M", 512ull << 20 }, { "2G", 2ull << 30 }, { "64", 64ull << 20 },
		{ "1048576k", 1ull << 30 }, { "1T", 1ull << 40 },
	};
	static const char *const bad[] = { "", "M", "12X", "1GB", "-1", "99999999999999999999", "16777216T", "1.5G", " 1" };
	struct err e;
	uint64_t v;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(vm_parse_size(good[i].text, &v, &e), 0);
		assert_int_equal(v, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(vm_parse_size(bad[i], &v, &e) < 0);
}

static void test_forwardings(void **state)
{
	static const char *const bad[] = { "", "tcp", "tcp:1", "tcp:0:22", "tcp:65536:22", "tcp:a:22", "sctp:1:2",
					   "tcp:1:2:3:4:5:6", "2222:22" };
	struct net_fwd f;
	struct err e;

	assert_int_equal(vm_parse_fwd("tcp:2222:22", &f, &e), 0);
	assert_false(f.udp);
	assert_int_equal(f.host_port, 2222);
	assert_int_equal(f.guest_port, 22);
	assert_string_equal(f.host_addr, "");
	assert_int_equal(vm_parse_fwd("udp:0.0.0.0:53:10.0.2.20:5353", &f, &e), 0);
	assert_true(f.udp);
	assert_string_equal(f.host_addr, "0.0.0.0");
	assert_int_equal(f.host_port, 53);
	assert_string_equal(f.guest_addr, "10.0.2.20");
	assert_int_equal(f.guest_port, 5353);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(vm_parse_fwd(bad[i], &f, &e) < 0);
}

static void test_macs(void **state)
{
	uint8_t mac[6];
	struct err e;

	assert_int_equal(vm_parse_mac("52:54:00:aB:00:ff", mac, &e), 0);
	assert_memory_equal(mac, ((uint8_t[]){ 0x52, 0x54, 0, 0xab, 0, 0xff }), 6);
	assert_true(vm_parse_mac("01:00:00:00:00:01", mac, &e) < 0);
	assert_true(vm_parse_mac("52:54:00:00:00", mac, &e) < 0);
	assert_true(vm_parse_mac("52:54:00:00:00:00:00", mac, &e) < 0);
}

/* Nodes: what nobody said is made up, and what does not go together is refused. */
static void test_nodes(void **state)
{
	static const struct { const char *key, *val, *text; } bad[] = {
		{ "numa.1.cpus", "0", "CPU 0 is in two nodes" }, { "numa.1.cpus", "6", "there is no CPU 6" }, { "numa.1.memory", "256M", "have 256 MiB of memory, the guest has 1025 MiB" },
		{ "numa.1.distance.1", "11", "from itself is 10" }, { "numa.1.distance.0", "10", "more than 10" }, { "numa.1.distance.2", "20", "no node 2" },
		{ "numa.1.memory", "5T", "have 5242880 MiB" }, { "numa.1.memory", "17592186044415M", "have 17592186044415 MiB" }, { "topology.cores", "3", "make 9 CPUs, not 6" },
	};
	static const char *const pairs[] = { "kernel", "k", "memory", "1025M", "cpus", "6", "topology.sockets", "3", "numa.0.node", "on", "numa.1.node", "on",
					     "numa.0.distance.1", "21", NULL };
	struct conf *c = conf_of(pairs);
	struct vm_config cfg;
	struct err e;

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(cfg.topology.cores, 2);
	assert_int_equal(cfg.node[0].memory, 512ull << 20);
	assert_int_equal(cfg.node[1].memory, 513ull << 20);
	assert_memory_equal(cfg.cpu_node, ((const uint8_t[]){ 0, 0, 1, 1, 0, 0 }), 6);
	assert_int_equal(cfg.node[1].distance[0], 21);
	assert_int_equal(cfg.node[1].distance[1], 10);
	assert_int_equal(conf_set(c, "numa.0.cpus", "0,4-5", &e), 0);
	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_memory_equal(cfg.cpu_node, ((const uint8_t[]){ 0, 0, 0, 0, 0, 0 }), 6);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(conf_set(c, bad[i].key, bad[i].val, &e), 0);
		assert_true(vm_config_from(c, &cfg, &e) < 0);
		if (!strstr(e.msg, bad[i].text))
			fail_msg("%s gave '%s'", bad[i].key, e.msg);
		conf_unset(c, bad[i].key);
	}
	/* The sum is the memory where nobody says more. */
	conf_unset(c, "memory");
	assert_int_equal(conf_set(c, "numa.0.memory", "64M", &e), 0);
	assert_int_equal(conf_set(c, "numa.1.memory", "0", &e), 0);
	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(cfg.memory, 64ull << 20);
	conf_free(c);
}

static void test_defaults(void **state)
{
	struct vm_config cfg;
	struct err e;
	struct conf *c = conf_of((const char *[]){ "kernel", "k", "net.0.kind", "user", NULL });

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(cfg.memory, 512ull << 20);
	assert_int_equal(cfg.cpus, 1);
	assert_true(cfg.rng && cfg.balloon);
	assert_int_equal(cfg.console, VM_CONSOLE_STDIO);
	assert_int_equal(cfg.n_nets, 1);
	assert_int_equal(cfg.net[0].mac[0], 0x52);
	conf_free(c);
	/* With --exec standard input and output belong to the command. */
	c = conf_of((const char *[]){ "kernel", "k", "exec", "true", NULL });
	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(cfg.console, VM_CONSOLE_NONE);
	conf_free(c);
}

static void test_refusals_name_the_option(void **state)
{
	refused("memory", "12X", "--memory");
	refused("memory", "0", "--memory");
	refused("memory", "1025K", "MiB");
	refused("cpus", "65", "--cpus");
	refused("cpus", "0", "--cpus");
	refused("numa.0.cpus", "0", "--numa: there is no node 0");
	refused("numa.16.node", "on", "at most 16 nodes");
	refused("numa.0.cpus", "1-", "not a list of numbers");
	refused("numa.0.cpus", "64", "not a list of numbers");
	refused("numa.0.memory", "100K", "whole number of MiB");
	refused("numa.0.distance.16", "20", "not a configuration key");
	refused("numa.0.distance.1", "9", "--numa");
	refused("backing.policy", "bind", "--memory-backing: policy=bind needs host-nodes=");
	refused("backing.host-nodes", "64", "not a list of numbers from 0 to 63");
	refused("backing.colour", "red", "not a configuration key");
	refused("cpu-weight", "0", "--cpu-weight");
	refused("cpu-weight", "10001", "--cpu-weight");
	refused("cpu-quota", "0", "--cpu-quota");
	refused("topology.threads", "3", "make 3 CPUs, not 1");
	refused("topology.books", "1", "not a configuration key");
	refused("max-cpus", "0", "--max-cpus");
	refused("max-cpus", "65", "--max-cpus");
	refused("vcpu.1.present", "on", "there is no CPU 1");
	refused("vcpu.0.present", "off", "CPU 0");
	refused("vcpu.0.id", "1x", "begins it");
	refused("vcpu.64.present", "on", "at most 64");
	refused("vcpu.0.colour", "red", "not a configuration key");
	refused("machine", "q35", "pc, micro");
	refused("accel", "tcg", "auto, kvm, interp");
	refused("disk.0.cache", "maybe", "--disk");
	refused("disk.0.ro", "on", "names no file");
	refused("disk.0.serial", "123456789012345678901", "20 characters");
	refused("disk.16.file", "x", "at most 16 disks");
	refused("disk.0.werror", "retry", "--disk");
	refused("disk.0.rerror", "enospc", "for writes");
	refused("disk.0.num-queues", "65", "--disk");
	refused("disk.0.discard", "on", "--disk");
	refused("disk.0.opt-io-size", "2G", "more than 1 GiB");
	refused("disk.0.size", "1000K", "1 MiB to 64 TiB");
	refused("disk.0.size", "65T", "1 MiB to 64 TiB");
	refused("disk.0.size", "x", "not a size");
	refused("disk.0.iothread", "", "--disk");
	refused("disk.0.key.0", "secret", "neither file:PATH nor fd:NUMBER");
	refused("disk.0.key.0", "fd:1", "--disk");
	refused("disk.0.key.0", "fd:999", "no such descriptor");
	refused("disk.0.key.8", "file:k", "at most 8 keys");
	refused("disk.0.key.1", "file:k", "names no file");
	refused("net.0.mac", "x", "--net");
	refused("net.0.if", "averylonginterfacename", "15 characters");
	refused("nonsense", "1", "nonsense");
	refused("disk.0.nonsense", "1", "disk.0.nonsense");
	refused("pin", "3-1", "--pin");
	refused("usb.0", "usb-ccid", "--usb");
	refused("usb.8", "usb-kbd", "at most 8 USB devices");
	refused("kernel", "", "--kernel");
	refused("exec-timeout", "0", "--exec-timeout");
}

static void test_contradictions(void **state)
{
	static const char *const sets[][10] = {
		{ "machine", "pc" },			/* no kernel */
		{ "kernel", "k", "net.0.kind", "tap", "net.0.fwd.0", "tcp:1:2" },
		{ "kernel", "k", "net.0.kind", "user", "net.0.if", "tap0" },
		{ "kernel", "k", "net.0.kind", "tap", "net.0.bootfile", "x" },
		{ "kernel", "k", "exec", "true", "console", "stdio" },
		{ "kernel", "k", "debugcon", "stdio" },
		{ "kernel", "k", "machine", "micro", "debug-exit", "on" },
		{ "kernel", "k", "net.0.mac", "52:54:00:00:00:01", "net.1.mac", "52:54:00:00:00:01" },
		{ "kernel", "k", "initrd.1", "second" },
	};

	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		struct conf *c = conf_of(sets[i]);
		struct vm_config cfg;
		struct err e = { 0 };

		assert_true(vm_config_from(c, &cfg, &e) < 0);
		assert_true(e.msg[0]);
		conf_free(c);
	}
}

/* Two drives at most, which may be empty; they are not the disk that firmware is chosen by. */
static void test_floppies(void **state)
{
	struct conf *c = conf_of((const char *[]){ "disk.0.if", "floppy", "disk.1.file", "f", "disk.1.if", "floppy", "disk.2.file", "d", "boot-order", "ac", NULL });
	struct vm_config cfg;
	struct err e = { 0 };

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_ptr_equal(vm_config_first_disk(&cfg), &cfg.disk[2]);
	assert_int_equal(conf_set(c, "disk.2.if", "floppy", NULL), 0);
	assert_true(vm_config_from(c, &cfg, &e) < 0);
	assert_non_null(strstr(e.msg, "at most 2 floppy drives"));
	conf_free(c);
	c = conf_of((const char *[]){ "disk.0.if", "floppy", NULL });
	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_null(vm_config_first_disk(&cfg));
	assert_int_equal(conf_set(c, "disk.0.iothread", "x", NULL), 0);
	assert_true(vm_config_from(c, &cfg, &e) < 0);
	conf_free(c);
	c = conf_of((const char *[]){ "kernel", "k", "machine", "micro", "disk.0.if", "floppy", NULL });
	assert_true(vm_config_from(c, &cfg, &e) < 0);
	assert_non_null(strstr(e.msg, "--machine micro has no floppy drives"));
	conf_free(c);
}

/* Who was handed a connection does not know where it led. */
static void test_sockets(void **state)
{
	struct conf *c = conf_of((const char *[]){ "kernel", "k", "chardev.0.kind", "socket", "chardev.0.id", "x", "chardev.0.fd", "9", NULL });
	struct vm_config cfg;
	struct err e = { 0 };

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(conf_set(c, "chardev.0.reconnect", "1", NULL), 0);
	assert_true(vm_config_from(c, &cfg, &e) < 0);
	assert_non_null(strstr(e.msg, "--chardev x: reconnect="));
	conf_free(c);
}

/* One that nobody asked for is a display like another, but is not insisted on. */
static void test_display_auto(void **state)
{
	struct conf *c = conf_of((const char *[]){ "disk.0.file", "d", "display", "auto", NULL });
	struct vm_config cfg;
	struct err e;

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_true(cfg.vnc.on && cfg.vnc.maybe);
	assert_int_equal(cfg.vga, VM_VGA_STD);
	conf_free(c);
	c = conf_of((const char *[]){ "disk.0.file", "d", "display", "vnc", NULL });
	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_true(cfg.vnc.on && !cfg.vnc.maybe);
	conf_free(c);
	refused("display", "automatic", "auto");
}

/* A display brings a tablet unless something else points, or none is wanted. */
static void test_usb(void **state)
{
	static const struct {
		const char *pairs[9];
		unsigned n;
		enum vm_usb last;
	} good[] = {
		{ { "kernel", "k", NULL }, 0, 0 },
		{ { "kernel", "k", "display", "vnc", NULL }, 1, VM_USB_TABLET },
		{ { "kernel", "k", "display", "vnc", "usb.0", "usb-kbd", NULL }, 2, VM_USB_TABLET },
		{ { "kernel", "k", "display", "vnc", "usb.0", "usb-mouse", NULL }, 1, VM_USB_MOUSE },
		{ { "kernel", "k", "display", "vnc", "usb.0", "none", NULL }, 1, VM_USB_NONE },
		{ { "kernel", "k", "display", "vnc", "input.0", "virtio-tablet", NULL }, 0, 0 },
		{ { "kernel", "k", "display", "vnc", "machine", "micro", "vga", "virtio-gpu", NULL }, 0, 0 },
		{ { "disk.0.file", "d", "disk.0.if", "usb", "disk.0.cdrom", "on", NULL }, 0, 0 },
	};
	static const char *const bad[][7] = {
		{ "kernel", "k", "usb.0", "none", "usb.1", "usb-kbd", NULL }, { "kernel", "k", "machine", "micro", "usb.0", "usb-kbd", NULL },
		{ "disk.0.file", "d", "disk.0.if", "usb", "disk.0.iothread", "a", NULL },
	};
	struct vm_config cfg;
	struct err e;

	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		struct conf *c = conf_of(good[i].pairs);

		assert_int_equal(vm_config_from(c, &cfg, &e), 0);
		assert_int_equal(cfg.n_usb, good[i].n);
		if (cfg.n_usb)
			assert_int_equal(cfg.usb[cfg.n_usb - 1], good[i].last);
		conf_free(c);
	}
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct conf *c = conf_of(bad[i]);

		assert_int_equal(vm_config_from(c, &cfg, &e), -EINVAL);
		conf_free(c);
	}
}

static void test_pin_list(void **state)
{
	struct vm_config cfg;
	struct err e;
	struct conf *c = conf_of((const char *[]){ "kernel", "k", "pin", "0,2-4", NULL });

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(cfg.n_pin, 4);
	assert_int_equal(cfg.pin_cpu[0], 0);
	assert_int_equal(cfg.pin_cpu[1], 2);
	assert_int_equal(cfg.pin_cpu[3], 4);
	conf_free(c);
}

static void test_dump_reads_back(void **state)
{
	static const char *const pairs[] = { "append", "a=1 \\ \"b\"\nc\r\n", "disk.0.file", "/tmp/with = sign",
					     "name", "", "exec", " leading and trailing ", NULL };
	struct conf *a = conf_of(pairs), *b;
	const char *key, *value;
	char *text = NULL;
	size_t len = 0;
	struct err e = { 0 };
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(conf_dump(a, f), 0);
	fclose(f);
	assert_int_equal(conf_new(&b), 0);
	f = fmemopen(text, len, "r");
	assert_int_equal(conf_read(b, f, "test", &e), 0);
	fclose(f);
	for (size_t i = 0; conf_nth(a, i, &key, &value); i++)
		assert_string_equal(conf_get(b, key), value);
	free(text);
	conf_free(a);
	conf_free(b);
}

static void test_bad_text_names_the_line(void **state)
{
	static const char *const texts[] = { "# fine\nno equals sign\n", "\nUPPER = 1\n", "\na = \\q\n", "\na..b = 1\n" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct conf *c;
		struct err e = { 0 };
		FILE *f = fmemopen((void *)(uintptr_t)texts[i], strlen(texts[i]), "r");

		assert_int_equal(conf_new(&c), 0);
		assert_true(conf_read(c, f, "file", &e) < 0);
		assert_true(e.msg[0]);
		fclose(f);
		conf_free(c);
	}
}

static void test_list_length(void **state)
{
	struct conf *c = conf_of((const char *[]){ "disk.0.file", "a", "disk.2.file", "b", "disks", "x", "diskette.7", "y", NULL });

	assert_int_equal(conf_list_len(c, "disk"), 3);
	assert_int_equal(conf_list_len(c, "net"), 0);
	conf_free(c);
}

static void test_bounded(void **state)
{
	struct conf *c;
	struct err e = { 0 };
	int ret = 0;

	assert_int_equal(conf_new(&c), 0);
	for (unsigned i = 0; i <= CONF_MAX_KEYS && !ret; i++)
		ret = conf_setf(c, "x", &e, "k.%u", i);
	assert_true(ret < 0);
	conf_free(c);
}

static void test_boot(void **state)
{
	struct conf *c = conf_of((const char *[]){ "firmware", "bios", "boot-order", "nc", "boot-menu", "2500",
						   "fw-cfg.0.name", "opt/x", "fw-cfg.0.string", "y", NULL });
	struct vm_config cfg;
	struct err e = { 0 };

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_string_equal(cfg.firmware, "bios");
	assert_string_equal(cfg.boot_order, "nc");
	assert_true(cfg.boot_menu);
	assert_int_equal(cfg.boot_menu_ms, 2500);
	assert_int_equal(cfg.n_fw_cfgs, 1);
	conf_free(c);
	refused("boot-order", "x", "--boot");
	refused("net.0.bootindex", "-1", "--net");
	refused("net.0.rombar", "2", "--net");
	refused("net.0.tftp", "", "--net");
	refused("vga-rombar", "x", "--vga");
	refused("boot-order", "cc", "at most once");
	refused("net.0.bus", "nowhere", "--net: bus=nowhere: there is no --root-port");
	refused("boot-menu", "perhaps", "--boot");
	refused("boot-menu", "-1", "milliseconds");
	refused("firmware-vars", "v", "add --firmware uefi");
	refused("vnc.websocket", "0", "--display: ");
	refused("vnc.password", "secret", "--display: ");
	refused("fw-cfg.0.name", "opt/x", "either string= or file=");
	refused("fw-cfg.16.name", "x", "at most 16");
	refused("watchdog", "rex", "--watchdog");
	refused("clipboard", "on", "--display vnc");
	refused("watchdog-action", "bite", "--watchdog");
	refused("tpm", "1.2", "--tpm");
	refused("tpm-state", "d", "--tpm");
	refused("tpm-end", "on", "socket=");
	refused("memory-max", "256M", "--memory: max= is 256 MiB, less than the 512 MiB");
	refused("memory-max", "x", "--memory: max=");
	refused("memory-max", "513M", "--memory-device vm0: the size of");
	refused("memory-device.0.size", "1G", "--memory-device: id is missing");
	refused("memory-device.0.id", "m0", "--memory-device m0: the size of 0");
	refused("memory-device.8.id", "m0", "at most 8 memory devices");
	refused("memory-device.0.colour", "red", "not a configuration key");
	refused("vsock.cid", "2", "--vsock");
	refused("vsock.cid", "4294967295", "--vsock");
	refused("vsock.cid", "3", "vsock.path is missing");
	refused("vsock.path", "", "--vsock");
	refused("vmgenid", "0123", "--vmgenid");
	refused("vmgenid", "01234567-89ab-cdef-0123-456789abcdeg", "--vmgenid");
	refused("vmgenid", "01234567-89ab-cdef-0123-456789abcdef0", "--vmgenid");
	refused("input.0", "virtio-piano", "--input");
	refused("input.9", "virtio-mouse", "--input");
	refused("chardev.0.kind", "null", "id=");
	refused("chardev.0.kind", "udp", "--chardev");
	refused("chardev.0.id", "", "--chardev");
	refused("chardev.16.id", "x", "--chardev");
	refused("chardev.0.speed", "x", "chardev.0.speed");
	refused("port.0.name", "x", "chardev=");
	/* Without a kernel: a disk or firmware, and a pc. */
	c = conf_of((const char *[]){ "disk.0.file", "d", NULL });
	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(conf_set(c, "machine", "micro", NULL), 0);
	assert_true(vm_config_from(c, &cfg, &e) < 0);
	assert_int_equal(conf_set(c, "machine", "pc", NULL), 0);
	assert_int_equal(conf_set(c, "append", "quiet", NULL), 0);
	assert_true(vm_config_from(c, &cfg, &e) < 0);
	conf_free(c);
}

/* Which firmware a disk wants, by what it begins with. */
static void test_disk_firmware(void **state)
{
	static const uint8_t esp[16] = { 0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b };
	uint8_t head[VM_DISK_HEAD] = { 0 };
	uint8_t *gpt = head + 512;

	assert_false(vm_disk_is_uefi(head));
	memcpy(gpt, "EFI PART", 8);
	st_le64(gpt + 72, 2);
	st_le32(gpt + 80, 128);
	st_le32(gpt + 84, 128);
	assert_false(vm_disk_is_uefi(head));		/* no ESP */
	memcpy(head + 1024 + 128 * 127, esp, 16);
	assert_true(vm_disk_is_uefi(head));
	head[0] = 0xeb;					/* boot code */
	assert_false(vm_disk_is_uefi(head));
	head[0] = 0;
	memcpy(head + 1024, "\x48\x61\x68\x21\x49\x64\x6f\x6e\x74\x4e\x65\x65\x64\x45\x46\x49", 16);
	assert_false(vm_disk_is_uefi(head));		/* a BIOS boot partition */
	memset(head + 1024, 0, 16);
	/* Nonsense in the header reaches nothing outside. */
	for (unsigned i = 0; i < 3; i++) {
		st_le64(gpt + 72, i == 0 ? UINT64_MAX : 33);
		st_le32(gpt + 80, UINT32_MAX);
		st_le32(gpt + 84, i == 1 ? 0 : 4096);
		assert_false(vm_disk_is_uefi(head));
	}
}

/* ROMs and places in the boot order, by QEMU's names. */
static void test_roms(void **state)
{
	struct conf *c = conf_of((const char *[]){ "firmware", "bios", "net.0.kind", "user", "net.0.romfile", "", "net.0.bootindex", "3",
						   "net.0.bootfile", "f", "net.1.kind", "user", "net.1.rombar", "0", "vga-romfile", "v", NULL });
	struct vm_config cfg;
	struct err e = { 0 };

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_string_equal(cfg.net[0].rom.file, "");
	assert_int_equal(cfg.net[0].bootindex, 3);
	assert_string_equal(cfg.net[0].bootfile, "f");
	assert_false(cfg.net[0].rom.no_bar);
	assert_true(cfg.net[1].rom.no_bar);
	assert_int_equal(cfg.net[1].bootindex, -1);
	assert_int_equal(cfg.disk[0].bootindex, -1);
	assert_string_equal(cfg.vga_rom.file, "v");
	conf_free(c);
}

static uint8_t sum_of(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return sum;
}

/* A ROM is made the card's own, and its bytes add up as before; nonsense is left alone. */
static void test_rom_ids(void **state)
{
	uint8_t rom[1024] = { 0x55, 0xaa, 2 }, before[1024];

	st_le16(rom + 0x18, 0x40);
	memcpy(rom + 0x40, "PCIR\xf4\x1a\x00\x10", 8);
	rom[1023] = (uint8_t)-sum_of(rom, 1023);
	assert_true(vm_rom_set_device(rom, sizeof(rom), 0x1af4, 0x1041));
	assert_false(vm_rom_set_device(rom, sizeof(rom), 0x8086, 0x10d3));
	assert_memory_equal(rom + 0x44, "\xf4\x1a\x41\x10", 4);
	assert_int_equal(sum_of(rom, sizeof(rom)), 0);
	memcpy(before, rom, sizeof(rom));
	assert_false(vm_rom_set_device(rom, 0x20, 0x1af4, 2));		/* shorter than its structure */
	assert_false(vm_rom_set_device(rom, 1, 0x1af4, 2));
	for (unsigned i = 0; i < 3; i++) {
		static const unsigned at[] = { 0, 0x40, 0x19 };

		memcpy(before, rom, sizeof(rom));
		before[at[i]] = 0xff;
		assert_false(vm_rom_set_device(before, sizeof(rom), 0x1af4, 2));
		assert_int_equal(before[0x46], 0x41);
	}
}

/* A credential of systemd is long, and taken whole or not at all. */
static void test_long_smbios(void **state)
{
	char value[SMBIOS_TEXT * 2] = "type=11,value=";
	const size_t head = strlen(value), long_one = 1500;
	struct vm_config cfg;
	struct err e = { 0 };
	struct conf *c;

	memset(value + head, 'x', long_one);
	c = conf_of((const char *[]){ "kernel", "k", "smbios.0", value, NULL });
	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(strlen(cfg.smbios.text + cfg.smbios.oem[0]), long_one);
	conf_free(c);
	memset(value + head, 'x', sizeof(value) - head - 1);
	refused("smbios.0", value, "no room");
}

/* Which CPUs are there: by their number, and by what is said of single ones. */
static void test_cpus(void **state)
{
	struct conf *c = conf_of((const char *[]){ "kernel", "k", "cpus", "2", "max-cpus", "6", "vcpu.1.present", "off", "vcpu.4.present", "on", "vcpu.4.id", "c4", NULL });
	struct vm_config cfg;
	struct err e = { "" };

	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(vm_config_n_cpus(&cfg), 2);
	assert_true(vm_config_has_cpu(&cfg, 0) && !vm_config_has_cpu(&cfg, 1) && vm_config_has_cpu(&cfg, 4) && !vm_config_has_cpu(&cfg, 64));
	/* One comes, and goes. */
	assert_int_equal(conf_set(c, "vcpu.5.present", "on", &e), 0);
	assert_int_equal(conf_set(c, "vcpu.5.id", "c4", &e), 0);
	assert_int_equal(vm_config_more(&cfg, c, "vcpu", 5, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "id=c4"));
	assert_int_equal(conf_set(c, "vcpu.5.id", "c5", &e), 0);
	assert_int_equal(vm_config_more(&cfg, c, "vcpu", 5, &e), 0);
	assert_int_equal(vm_config_n_cpus(&cfg), 3);
	assert_string_equal(cfg.cpu_id[5], "c5");
	conf_unset(c, "vcpu.5");
	vm_config_forget(&cfg, "vcpu", 5, c);
	assert_int_equal(vm_config_n_cpus(&cfg), 2);
	assert_null(cfg.cpu_id[5]);
	conf_free(c);
	/* As many as there are from the start, unless more are said; not fewer. */
	c = conf_of((const char *[]){ "kernel", "k", "cpus", "3", NULL });
	assert_int_equal(vm_config_from(c, &cfg, &e), 0);
	assert_int_equal(cfg.max_cpus, 3);
	assert_int_equal(conf_set(c, "max-cpus", "2", &e), 0);
	assert_int_equal(vm_config_from(c, &cfg, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "--max-cpus"));
	assert_int_equal(conf_set(c, "max-cpus", "3", &e), 0);
	assert_int_equal(conf_set(c, "vcpu.2.present", "off", &e), 0);
	assert_int_equal(vm_config_from(c, &cfg, &e), -EINVAL);
	conf_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpus),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_forwardings), cmocka_unit_test(test_boot), cmocka_unit_test(test_disk_firmware),
		cmocka_unit_test(test_roms), cmocka_unit_test(test_rom_ids),
		cmocka_unit_test(test_macs),
		cmocka_unit_test(test_nodes), cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_refusals_name_the_option),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_pin_list), cmocka_unit_test(test_floppies), cmocka_unit_test(test_sockets), cmocka_unit_test(test_display_auto), cmocka_unit_test(test_usb),
		cmocka_unit_test(test_dump_reads_back),
		cmocka_unit_test(test_bad_text_names_the_line),
		cmocka_unit_test(test_list_length),
		cmocka_unit_test(test_bounded), cmocka_unit_test(test_long_smbios),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
