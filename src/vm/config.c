// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From the configuration tree to the checked structure.
 *
 * Every key of the tree is looked up in the tables below; what is not there is
 * an error, so a misspelt key never passes in silence.  Values are checked for
 * form here; whether the host can do it shows when the machine is built.
 */
#include "vm/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "cpu/engine.h"
#include "device/vga.h"
#include "virtio/gpu.h"
#include "vm/config_int.h"
#include "vm/seed.h"
#include "vm/migrate_wire.h"

#define MIB (1ull << 20)
#define BOOT_MENU_MS 5000
#define VGA_DEFAULT (16 * MIB)
#define MEMORY_MIN (1 * MIB)

int vm_parse_size(const char *text, uint64_t *bytes, struct err *e)
{
	unsigned long long n;
	uint64_t unit;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || errno)
		return err_set(e, -EINVAL, "'%.40s' is not a size; write for instance 512M or 2G", text);
	switch (*end) {
	case 'k': case 'K': unit = 1ull << 10; end++; break;
	case '\0': unit = MIB; break;
	case 'm': case 'M': unit = MIB; end++; break;
	case 'g': case 'G': unit = 1ull << 30; end++; break;
	case 't': case 'T': unit = 1ull << 40; end++; break;
	default: unit = 0;
	}
	if (!unit || *end)
		return err_set(e, -EINVAL, "'%.40s': the size's suffix must be K, M, G or T", text);
	if (mul_overflows(n, unit, bytes))
		return err_set(e, -ERANGE, "'%.40s' is too large a size", text);
	return 0;
}

int config_uint(const char *text, unsigned min, unsigned max, unsigned *out, struct err *e)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || n < min || n > max)
		return err_set(e, -EINVAL, "'%.40s' is not a number from %u to %u", text, min, max);
	*out = (unsigned)n;
	return 0;
}

int config_bool(const char *text, bool *out, struct err *e)
{
	if (!strcmp(text, "on") || !strcmp(text, "yes") || !strcmp(text, "true"))
		*out = true;
	else if (!strcmp(text, "off") || !strcmp(text, "no") || !strcmp(text, "false"))
		*out = false;
	else
		return err_set(e, -EINVAL, "'%.40s' is neither on nor off", text);
	return 0;
}

/* One of the words; the index is the value. */
int config_word(const char *text, const char *const *words, int *out, struct err *e)
{
	char all[128] = "";

	for (int i = 0; words[i]; i++) {
		if (!strcmp(text, words[i])) {
			*out = i;
			return 0;
		}
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? ", " : "", words[i]);
	}
	return err_set(e, -EINVAL, "'%.40s' is not one of %s", text, all);
}

int vm_parse_mac(const char *text, uint8_t mac[6], struct err *e)
{
	unsigned b[6];
	int len = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &len) != 6 ||
	    text[len])
		return err_set(e, -EINVAL, "'%.40s' is not a MAC address such as 52:54:00:12:34:56", text);
	if (b[0] & 1)
		return err_set(e, -EINVAL, "'%.40s' is a multicast MAC address; a card needs a unicast one", text);
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}

static bool parse_port(const char *text, uint16_t *out)
{
	unsigned n = 0;

	if (config_uint(text, 1, 65535, &n, NULL))
		return false;
	*out = (uint16_t)n;
	return true;
}

int vm_parse_fwd(const char *text, struct net_fwd *out, struct err *e)
{
	char buf[160], *part[5], *save = NULL;
	const char *host_port, *guest_port;
	unsigned n = 0;

	memset(out, 0, sizeof(*out));
	if (snprintf(buf, sizeof(buf), "%s", text) >= (int)sizeof(buf))
		goto bad;
	for (char *p = strtok_r(buf, ":", &save); p; p = strtok_r(NULL, ":", &save)) {
		if (n == ARRAY_LEN(part))
			goto bad;
		part[n++] = p;
	}
	if (n < 3 || (strcmp(part[0], "tcp") && strcmp(part[0], "udp")))
		goto bad;
	out->udp = part[0][0] == 'u';
	host_port = part[1];
	guest_port = part[n - 1];
	if (n >= 4) {
		if (snprintf(out->host_addr, sizeof(out->host_addr), "%s", part[1]) >= (int)sizeof(out->host_addr))
			goto bad;
		host_port = part[2];
	}
	if (n == 5) {
		if (snprintf(out->guest_addr, sizeof(out->guest_addr), "%s", part[3]) >= (int)sizeof(out->guest_addr))
			goto bad;
	}
	if (parse_port(host_port, &out->host_port) && parse_port(guest_port, &out->guest_port))
		return 0;
bad:
	return err_set(e, -EINVAL, "'%.60s' is not a forwarding; write tcp:[ADDRESS:]HOSTPORT:GUESTPORT, "
		       "for instance tcp:2222:22", text);
}

static int parse_pin(const char *text, struct vm_config *v, struct err *e)
{
	const char *p = text;

	v->n_pin = 0;
	while (*p) {
		unsigned long lo, hi;
		char *end;

		lo = hi = strtoul(p, &end, 10);
		if (end == p || !isdigit((unsigned char)*p))
			goto bad;
		if (*end == '-') {
			p = end + 1;
			hi = strtoul(p, &end, 10);
			if (end == p || !isdigit((unsigned char)*p))
				goto bad;
		}
		if (hi < lo || hi > 4095)
			goto bad;
		for (; lo <= hi && v->n_pin < MACHINE_MAX_VCPUS; lo++)
			v->pin_cpu[v->n_pin++] = (int)lo;
		if (*end == ',')
			end++;
		else if (*end)
			goto bad;
		p = end;
	}
	v->pin = v->n_pin > 0;
	if (v->pin)
		return 0;
bad:
	return err_set(e, -EINVAL, "'%.40s' is not a list of host CPUs such as 0,2-3", text);
}

static const char *const machine_words[] = { "pc", "micro", NULL };
static const char *const accel_words[] = { "auto", "kvm", "interp", "translate", "check", NULL };
static const char *const huge_words[] = { "off", "thp", "2m", NULL };
static const char *const display_words[] = { "none", "vnc", "auto", NULL };
static const char *const nic_words[] = { "virtio", "virtio-net-pci", "e1000e", NULL };	/* QEMU's name, too */
static const char *const net_words[] = { "user", "tap", "none", NULL };

static int set_console(const char *value, enum vm_console *kind, const char **file, struct err *e)
{
	if (!*value)
		return err_set(e, -EINVAL, "it must be stdio, pty, none or the name of a file");
	*file = NULL;
	if (!strcmp(value, "stdio")) {
		*kind = VM_CONSOLE_STDIO;
	} else if (!strcmp(value, "pty")) {
		*kind = VM_CONSOLE_PTY;
	} else if (!strcmp(value, "none")) {
		*kind = VM_CONSOLE_NONE;
	} else {
		*kind = VM_CONSOLE_FILE;
		*file = value;
	}
	return 0;
}

static int set_memory(const char *value, uint64_t *out, struct err *e)
{
	int ret = vm_parse_size(value, out, e);

	if (ret)
		return ret;
	if (*out < MEMORY_MIN || *out > VM_MEMORY_MAX)
		return err_set(e, -EINVAL, "'%.40s': a guest's memory is between 1M and 4096G", value);
	if (*out % MIB)
		return err_set(e, -EINVAL, "'%.40s' is not a whole number of MiB", value);
	return 0;
}

int config_text(const char *value, const char **out, struct err *e)
{
	*out = value;
	return *value ? 0 : err_set(e, -EINVAL, "it must not be empty");
}

static int set_code_cache(const char *value, uint64_t *out, struct err *e)
{
	int ret = vm_parse_size(value, out, e);

	if (ret)
		return ret;
	if (*out < CODE_CACHE_MIN || *out > CODE_CACHE_MAX)
		return err_set(e, -EINVAL, "'%.40s': the translator's cache is between 1M and 1024M", value);
	return 0;
}

static int set_direct(const char *value, enum cpu_direct *out, struct err *e)
{
	static const char *const names[] = { [CPU_DIRECT_AUTO] = "auto", [CPU_DIRECT_OFF] = "off", [CPU_DIRECT_ALWAYS] = "always" };

	for (unsigned n = 0; n < ARRAY_LEN(names); n++)
		if (!strcmp(value, names[n]))
			return *out = (enum cpu_direct)n, 0;
	return err_set(e, -EINVAL, "'%.40s' is none of auto, off, always", value);
}

/* ADDRESS[,FILE] */
static int parse_dump(const char *value, struct vm_config *v, struct err *e)
{
	char *end;

	errno = 0;
	v->dump_address = strtoull(value, &end, 16);
	if (end == value || errno || *value == '-' || (*end && (*end != ',' || !end[1])))
		return err_set(e, -EINVAL, "'%.60s' is not ADDRESS or ADDRESS,FILE with a hexadecimal address", value);
	v->dump_block = true;
	v->dump_file = *end ? end + 1 : NULL;
	return 0;
}

/* QEMU's names for the cards, too. */
static int set_vga(const char *value, enum vm_vga *out, struct err *e)
{
	static const struct {
		const char *name;
		enum vm_vga vga;
	} words[] = {
		{ "none", VM_VGA_NONE }, { "std", VM_VGA_STD }, { "VGA", VM_VGA_STD }, { "virtio", VM_VGA_VIRTIO },
		{ "virtio-vga", VM_VGA_VIRTIO }, { "virtio-gpu", VM_VGA_GPU }, { "virtio-gpu-pci", VM_VGA_GPU },
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (!strcmp(value, words[i].name))
			return *out = words[i].vga, 0;
	return err_set(e, -EINVAL, "'%.40s' is none of none, std, virtio (a VGA and virtio-gpu in one), virtio-gpu", value);
}

static int set_vga_memory(const char *value, uint64_t *out, struct err *e)
{
	if (!isdigit((unsigned char)*value) || vm_parse_size(value, out, e) || !is_pow2(*out) || *out < VGA_VRAM_MIN ||
	    *out > VGA_VRAM_MAX)
		return err_set(e, -EINVAL, "'%.40s': vram= is a power of two from 1M to 256M", value);
	return 0;
}

/* Where a password is, never what it is. */
static int set_password(const char *val, const char **out, struct err *e)
{
	unsigned fd;

	*out = val;
	if (!strncmp(val, "file:", 5) && val[5])
		return 0;
	if (strncmp(val, "fd:", 3))
		return err_set(e, -EINVAL, "'%.40s' is neither file:PATH nor fd:NUMBER", val);
	if (config_uint(val + 3, 3, 65535, &fd, e))
		return -EINVAL;
	return fcntl((int)fd, F_GETFD) < 0 ? err_set(e, -EBADF, "password-fd=%u: no such descriptor is open", fd) : 0;
}

static int set_vnc(const char *field, const char *val, struct vm_vnc *v, struct err *e)
{
	if (!strcmp(field, "listen"))
		return config_text(val, &v->listen, e);
	if (!strcmp(field, "websocket"))
		return config_uint(val, 1, 65535, &v->websocket, e);
	if (!strcmp(field, "read-only"))
		return config_bool(val, &v->read_only, e);
	if (!strcmp(field, "password") && !strcmp(val, "later"))
		return v->password_later = true, 0;
	if (!strcmp(field, "password"))
		return set_password(val, &v->password, e);
	if (!strcmp(field, "view-password"))
		return set_password(val, &v->view_password, e);
	if (!strcmp(field, "tls-cert"))
		return config_text(val, &v->tls_cert, e);
	if (!strcmp(field, "tls-key"))
		return config_text(val, &v->tls_key, e);
	if (strcmp(field, "tls"))
		return -ENOENT;
	v->tls_anonymous = true;
	return strcmp(val, "anon") ? err_set(e, -EINVAL, "'%.40s' is not anon", val) : 0;
}

static int set_start(const char *value, int64_t *out, struct err *e)
{
	char *end;

	*out = strtoll(value, &end, 10);
	return *end || *out < 0 ? err_set(e, -EINVAL, "'%.40s' is not a time", value) : 0;
}

/* Letters, each once. */
static int set_boot_order(const char *value, const char **out, struct err *e)
{
	for (const char *p = value; *p; p++)
		if (!strchr("acdn", *p) || strchr(p + 1, *p))
			return err_set(e, -EINVAL, "'%.20s': the order is made of a (floppy), c (disk), d (CD) and n (network), each at most once",
				       value);
	*out = value;
	return 0;
}

static int set_boot_menu(const char *value, struct vm_config *v, struct err *e)
{
	if (!isdigit((unsigned char)*value)) {
		v->boot_menu_ms = BOOT_MENU_MS;
		return config_bool(value, &v->boot_menu, NULL) ?
			err_set(e, -EINVAL, "menu=%.40s is neither on, off nor a number of milliseconds from 1 to 65535", value) : 0;
	}
	v->boot_menu = true;
	return config_uint(value, 1, 65535, &v->boot_menu_ms, e);
}

static int set_fw_cfg(struct vm_fw_cfg *f, const char *field, const char *val, struct err *e)
{
	if (!strcmp(field, "name"))
		return config_text(val, &f->name, e);
	if (!strcmp(field, "file"))
		return config_text(val, &f->file, e);
	if (!strcmp(field, "string"))
		return f->text = val, 0;
	return -ENOENT;
}

/* QEMU's numbers, or words. */
static int set_rombar(const char *val, struct vm_rom *rom, struct err *e)
{
	bool on = true;
	int ret = !strcmp(val, "0") ? (on = false, 0) : !strcmp(val, "1") ? 0 : config_bool(val, &on, e);

	rom->no_bar = !on;
	return ret;
}

int config_bootindex(const char *val, int *out, struct err *e)
{
	unsigned n = 0;
	int ret = config_uint(val, 0, 65535, &n, e);

	*out = (int)n;
	return ret;
}

/* Keys without an index.  -ENOENT: not one of them. */
static int set_scalar(const char *key, const char *val, struct vm_config *v, struct err *e)
{
	int w = 0, ret;

#define IS(k) (!strcmp(key, k))
	if (IS("name")) {
		v->name_given = true;
		return config_text(val, &v->name, e);
	}
	if (IS("machine")) {
		ret = config_word(val, machine_words, &w, e);
		v->machine = (enum vm_machine)w;
		return ret;
	}
	if (IS("accel")) {
		ret = config_word(val, accel_words, &w, e);
		v->accel = (enum vm_accel)w;
		return ret;
	}
	if (IS("huge-pages")) {
		ret = config_word(val, huge_words, &w, e);
		v->huge = w;	/* the words are in the order of MEM_HUGE_* */
		return ret;
	}
	if (IS("accel-split"))
		return config_bool(val, &v->accel_split, e);
	if (IS("cpu"))
		return config_text(val, &v->cpu, e);
	if (IS("cpus"))
		return config_uint(val, 1, MACHINE_MAX_VCPUS, &v->cpus, e);
	if (IS("max-cpus"))
		return config_uint(val, 1, MACHINE_MAX_VCPUS, &v->max_cpus, e);
	if (IS("memory")) {
		v->memory_given = true;
		return set_memory(val, &v->memory, e);
	}
	if (IS("memory-max"))
		return set_memory(val, &v->memory_max, e);
	if (IS("pin"))
		return parse_pin(val, v, e);
	if (IS("kernel"))
		return config_text(val, &v->kernel, e);
	if (IS("firmware"))
		return config_text(val, &v->firmware, e);
	if (IS("firmware-vars"))
		return config_text(val, &v->firmware_vars, e);
	if (IS("boot-order"))
		return set_boot_order(val, &v->boot_order, e);
	if (IS("boot-menu"))
		return set_boot_menu(val, v, e);
	if (IS("append"))
		return v->append = val, 0;
	if (IS("user-data"))
		return config_text(val, &v->seed.user_data, e);
	if (IS("meta-data"))
		return config_text(val, &v->seed.meta_data, e);
	if (IS("network-config"))
		return config_text(val, &v->seed.network_config, e);
	if (IS("hostname"))
		return config_text(val, &v->seed.hostname, e);
	if (IS("console"))
		return set_console(val, &v->console, &v->console_file, e);
	if (IS("debugcon"))
		return set_console(val, &v->debugcon, &v->debugcon_file, e);
	if (IS("debug-exit"))
		return config_bool(val, &v->debug_exit, e);
	if (IS("test-device"))
		return config_bool(val, &v->test_device, e);
	if (IS("balloon"))
		return config_bool(val, &v->balloon, e);
	if (IS("rng"))
		return config_bool(val, &v->rng, e);
	if (IS("vga")) {
		v->vga_given = true;
		return set_vga(val, &v->vga, e);
	}
	if (IS("vga-romfile"))
		return v->vga_rom.file = val, 0;
	if (IS("vga-rombar"))
		return set_rombar(val, &v->vga_rom, e);
	if (IS("vga-memory"))
		return set_vga_memory(val, &v->vga_memory, e);
	if (IS("vga-outputs"))
		return config_uint(val, 1, VIRTIO_GPU_MAX_OUTPUTS, &v->outputs, e);
	if (IS("control"))
		return config_bool(val, &v->control, e);
	if (IS("in-place"))
		return config_bool(val, &v->in_place, e);
	if (IS("loadvm"))
		return config_text(val, &v->loadvm, e);
	if (IS("incoming-tls"))
		return config_text(val, &v->incoming_tls, e);
	if (IS("incoming"))
		return config_text(val, &v->incoming, e);
	if (IS("from-snapshot"))
		return config_text(val, &v->from_snapshot, e);
	if (IS("paused"))
		return config_bool(val, &v->paused, e);
	if (IS("display")) {
		ret = config_word(val, display_words, &w, e);
		v->vnc.on = w;
		v->vnc.maybe = w == 2;
		return ret;
	}
	if (!strncmp(key, "vnc.", 4))
		return set_vnc(key + 4, val, &v->vnc, e);
	if (IS("stats"))
		return config_bool(val, &v->stats, e);
	if (IS("code-cache"))
		return set_code_cache(val, &v->code_cache, e);
	if (IS("direct"))
		return set_direct(val, &v->direct, e);
	if (IS("perf-map"))
		return config_bool(val, &v->perf_map, e);
	if (IS("dump-block"))
		return parse_dump(val, v, e);
	if (IS("no-reboot"))
		return config_bool(val, &v->no_reboot, e);
	if (IS("exec"))
		return config_text(val, &v->exec, e);
	if (IS("exec-timeout"))
		return config_uint(val, 1, 86400, &v->exec_timeout, e);
	if (IS("shutdown-timeout"))
		return config_uint(val, 0, 86400, &v->shutdown_timeout, e);
	if (IS("start-ns"))
		return set_start(val, &v->start_ns, e);
#undef IS
	return config_part(key, val, v, e);
}

/* What a guest that boots from the network is told.  -ENOENT: none of these. */
static int set_net_boot(struct vm_net *n, const char *field, const char *val, struct err *e)
{
	if (!strcmp(field, "tftp"))
		return config_text(val, &n->tftp, e);
	if (!strcmp(field, "bootfile"))
		return config_text(val, &n->bootfile, e);
	if (!strcmp(field, "hostname"))
		return config_text(val, &n->hostname, e);
	if (!strcmp(field, "domainname"))
		return config_text(val, &n->domainname, e);
	if (!strcmp(field, "net"))
		return config_text(val, &n->net, e);
	if (!strcmp(field, "host"))
		return config_text(val, &n->host, e);
	if (!strcmp(field, "dns"))
		return config_text(val, &n->dns, e);
	if (!strcmp(field, "dhcpstart"))
		return config_text(val, &n->dhcpstart, e);
	if (!strcmp(field, "dnssearch"))
		return config_text(val, &n->dnssearch, e);
	if (!strcmp(field, "tftp-server-name"))
		return config_text(val, &n->tftp_server_name, e);
	if (!strcmp(field, "romfile"))
		return n->rom.file = val, 0;
	if (!strcmp(field, "rombar"))
		return set_rombar(val, &n->rom, e);
	if (!strcmp(field, "bootindex"))
		return config_bootindex(val, &n->bootindex, e);
	return -ENOENT;
}

int config_net(struct vm_net *n, const char *field, const char *val, struct err *e)
{
	int w = 0, ret;

	if (!strcmp(field, "kind")) {
		ret = config_word(val, net_words, &w, e);
		n->kind = (enum vm_net_kind)w;
		return ret;
	}
	if (!strcmp(field, "model")) {
		ret = config_word(val, nic_words, &w, e);
		n->model = w < 2 ? VM_NIC_VIRTIO : VM_NIC_E1000E;
		return ret;
	}
	if (!strcmp(field, "if")) {
		n->ifname = val;
		return *val && strlen(val) < 16 ? 0 :
			err_set(e, -EINVAL, "'%.40s': an interface's name has 1 to 15 characters", val);
	}
	if (!strcmp(field, "bus"))
		return config_text(val, &n->bus, e);
	if (!strcmp(field, "slot"))
		return config_slot(val, &n->slot, e);
	if (!strcmp(field, "id"))
		return config_id(val, &n->id, e);
	if (!strcmp(field, "netdev"))
		return config_text(val, &n->netdev, e);
	if (!strcmp(field, "mac")) {
		n->mac_given = true;
		return vm_parse_mac(val, n->mac, e);
	}
	if (!strcmp(field, "queues"))
		return config_uint(val, 1, 8, &n->queues, e);
	if (!strcmp(field, "restrict"))
		return config_bool(val, &n->restrict_, e);
	if (!fnmatch("fwd.*", field, 0)) {
		if (n->n_fwd >= VM_MAX_FWDS)
			return err_set(e, -E2BIG, "a card has at most %d forwardings", VM_MAX_FWDS);
		return vm_parse_fwd(val, &n->fwd[n->n_fwd++], e);
	}
	return set_net_boot(n, field, val, e);
}

bool config_indexed(const char *key, const char *list, unsigned *n, const char **field)
{
	size_t len = strlen(list);
	char *end;

	if (strncmp(key, list, len) || key[len] != '.' || !isdigit((unsigned char)key[len + 1]))
		return false;
	*n = (unsigned)strtoul(key + len + 1, &end, 10);
	if (*end && *end != '.')
		return false;
	*field = *end ? end + 1 : end;
	return true;
}

static int too_many(const char *what, unsigned max, struct err *e)
{
	return err_set(e, -E2BIG, "a guest has at most %u %s", max, what);
}

int config_set(const char *key, const char *val, struct vm_config *v, struct err *e)
{
	const char *field;
	unsigned n;

	if (config_indexed(key, "initrd", &n, &field) && !*field) {
		if (n >= VM_MAX_INITRDS)
			return too_many("initrds", VM_MAX_INITRDS, e);
		return config_text(val, &v->initrd[n], e);
	}
	if (config_indexed(key, "chardev", &n, &field))
		return config_chardev(v, n, field, val, e);
	if (config_indexed(key, "port", &n, &field))
		return config_port(v, n, field, val, e);
	if (config_indexed(key, "share", &n, &field))
		return config_share(v, n, field, val, e);
	if (config_indexed(key, "vhost-disk", &n, &field))
		return config_vhost_disk(v, n, field, val, e);
	if (config_indexed(key, "vcpu", &n, &field))
		return config_vcpu(v, n, field, val, e);
	if (config_indexed(key, "numa", &n, &field))
		return config_numa(v, n, field, val, e);
	if (!strncmp(key, "backing.", 8))
		return config_backing(v, key + 8, val, e);
	if (!strcmp(key, "cpu-weight") || !strcmp(key, "cpu-quota"))
		return config_limit(v, key, val, e);
	if (!strncmp(key, "topology.", 9))
		return config_topology(v, key + 9, val, e);
	if (config_indexed(key, "memory-device", &n, &field))
		return config_memory_device(v, n, field, val, e);
	if (config_indexed(key, "root-port", &n, &field))
		return config_root_port(v, n, field, val, e);
	if (!strcmp(key, "hotplug")) {
		v->free_ports_given = true;
		return config_uint(val, 0, VM_MAX_FREE_PORTS, &v->free_ports, e);
	}
	if (!strcmp(key, "pci-hotplug"))
		return config_bool(val, &v->pci_hotplug, e);
	if (!strcmp(key, "kept-slots"))
		return config_kept_slots(v, val, e);
	if (config_indexed(key, "input", &n, &field) && !*field)
		return config_input(v, n, val, e);
	if (!strcmp(key, "gdb"))
		return config_text(val, &v->gdb, e);
	if (config_indexed(key, "qmp", &n, &field) && !*field)
		return n < VM_MAX_QMPS ? config_text(val, &v->qmp[n], e) : too_many("monitors", VM_MAX_QMPS, e);
	if (config_indexed(key, "monitor", &n, &field) && !*field)
		return n < VM_MAX_MONITORS ? config_text(val, &v->monitor[n], e) : too_many("monitors", VM_MAX_MONITORS, e);
	if (config_indexed(key, "ssh-key", &n, &field) && !*field) {
		if (n >= VM_MAX_SSH_KEYS)
			return too_many("files of SSH keys", VM_MAX_SSH_KEYS, e);
		v->seed.n_keys = MAX(v->seed.n_keys, n + 1);
		return config_text(val, &v->seed.key[n], e);
	}
	if (config_indexed(key, "usb", &n, &field))
		return config_usb(v, n, field, val, e);
	if (config_indexed(key, "serial", &n, &field) && !*field)
		return config_serial(v, n, val, e);
	if (config_indexed(key, "smbios", &n, &field) && !*field)
		return config_smbios(v, val, e);
	if (config_indexed(key, "object", &n, &field))
		return n < VM_MAX_OBJECTS ? config_text(val, &v->object[n], e) : too_many("objects", VM_MAX_OBJECTS, e);
	if (config_indexed(key, "blockdev", &n, &field))
		return n < VM_MAX_BLOCKDEVS ? config_text(val, &v->blockdev[n], e) : too_many("block nodes", VM_MAX_BLOCKDEVS, e);
	if (config_indexed(key, "disk", &n, &field))
		return n < VM_MAX_DISKS ? config_disk(&v->disk[n], field, val, e) : too_many("disks", VM_MAX_DISKS, e);
	if (config_indexed(key, "fw-cfg", &n, &field))
		return n < VM_MAX_FW_CFGS ? set_fw_cfg(&v->fw_cfg[n], field, val, e) : too_many("fw_cfg files", VM_MAX_FW_CFGS, e);
	if (config_indexed(key, "net", &n, &field))
		return n < VM_MAX_NETS ? config_net(&v->net[n], field, val, e) : too_many("network cards", VM_MAX_NETS, e);
	return set_scalar(key, val, v, e);
}

/* "disk.0.cache" -> "--disk", the way the user wrote it. */
static void option_of(const struct vm_config *v, const char *key, char *out, size_t len)
{
	const char *dot = strchr(key, '.'), *field;
	unsigned n;

	if (config_indexed(key, "disk", &n, &field) && n < VM_MAX_DISKS)
		snprintf(out, len, "%s", vm_disk_option(&v->disk[n]));
	else if (!strcmp(key, "accel-split"))
		snprintf(out, len, "--accel");
	else if (!strncmp(key, "boot-", 5))
		snprintf(out, len, "--boot");
	else if (!strncmp(key, "vnc.", 4))
		snprintf(out, len, "--display");
	else if (!strcmp(key, "memory-max"))
		snprintf(out, len, "--memory: max=");
	else if (!strncmp(key, "vga-", 4))
		snprintf(out, len, "--vga");
	else if (!strncmp(key, "backing.", 8))
		snprintf(out, len, "--memory-backing");
	else if (!strncmp(key, "tpm-", 4))
		snprintf(out, len, "--tpm");
	else if (!strncmp(key, "watchdog-", 9))
		snprintf(out, len, "--watchdog");
	else
		snprintf(out, len, "--%.*s", dot ? (int)(dot - key) : (int)strlen(key), key);
}

/* A locally administered address that is the same on every start of this VM. */
static void default_mac(const char *name, unsigned card, uint8_t mac[6])
{
	uint32_t h = 2166136261u;

	for (const char *p = name; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	h = (h ^ card) * 16777619u;
	memcpy(mac, (uint8_t[]){ 0x52, 0x54, 0x00, h >> 16 & 0xff, h >> 8 & 0xff, h & 0xff }, 6);
}

int config_check_net(struct vm_net *n, unsigned i, const struct vm_config *v, struct err *e)
{
	if (!n->mac_given)
		default_mac(v->name, i, n->mac);
	if (n->kind != VM_NET_USER && n->n_fwd)
		return err_set(e, -EINVAL, "--net: only a user network forwards ports");
	if (n->kind != VM_NET_USER && (n->tftp || n->bootfile || n->tftp_server_name))
		return err_set(e, -EINVAL, "--net: tftp=, bootfile= and tftp-server-name= belong to user");
	if (n->kind != VM_NET_TAP && (n->ifname || n->queues > 1))
		return err_set(e, -EINVAL, "--net: if= and queues= belong to tap");
	if (n->model == VM_NIC_E1000E && v->machine == VM_MACHINE_MICRO)
		return err_set(e, -EINVAL, "--net: model=e1000e needs PCI, which --machine micro has not; use --machine pc");
	if ((n->bus || n->slot) && v->machine == VM_MACHINE_MICRO)
		return err_set(e, -EINVAL, "--net: bus= and slot= are for PCI, which --machine micro has not");
	if (n->model == VM_NIC_E1000E && n->queues > 1)
		return err_set(e, -EINVAL, "--net: queues= is for model=virtio");
	for (unsigned k = 0; k < i; k++)
		if (n->kind != VM_NET_NONE && v->net[k].kind != VM_NET_NONE && !memcmp(n->mac, v->net[k].mac, 6))
			return err_set(e, -EINVAL, "--net: cards %u and %u have the same MAC address", k, i);
	return 0;
}

static int check_boot(const struct vm_config *v, struct err *e)
{
	if (!v->kernel && !v->firmware && !v->n_disks && !v->n_vhost_disks)
		return err_set(e, -EINVAL, "nothing to boot: give a disk image, --kernel FILE or --firmware bios");
	if (!v->kernel && (v->n_initrds || *v->append))
		return err_set(e, -EINVAL, "--%s is for a kernel: use --kernel FILE", v->n_initrds ? "initrd" : "append");
	if (v->kernel && !v->firmware && v->firmware_vars)
		return err_set(e, -EINVAL, "--firmware-vars: a kernel that is started directly has no firmware; add --firmware uefi");
	if (v->machine == VM_MACHINE_MICRO && (v->firmware || !v->kernel))
		return err_set(e, -EINVAL, "--machine micro has no firmware: give it a --kernel, or use --machine pc");
	for (unsigned i = 0; i < v->n_fw_cfgs; i++)
		if (!v->fw_cfg[i].name || !v->fw_cfg[i].text == !v->fw_cfg[i].file)
			return err_set(e, -EINVAL, "--fw-cfg: file %u needs a name and either string= or file=", i);
	return 0;
}

static int check_display(struct vm_config *v, struct err *e)
{
	bool vga;

	if (v->vnc.on && !v->vga_given)
		v->vga = VM_VGA_STD;
	vga = v->vga == VM_VGA_STD || v->vga == VM_VGA_VIRTIO;
	if (v->machine == VM_MACHINE_MICRO && vga)
		return err_set(e, -EINVAL, "--vga, --display: a VGA exists on --machine pc only; --vga virtio-gpu works here, too");
	if (v->vnc.on && !v->vga)
		return err_set(e, -EINVAL, "--display needs an adapter to show; leave --vga none out");
	if (v->vga_memory && !vga)
		return err_set(e, -EINVAL, "--vga: vram= is a VGA's; this adapter has none");
	if (v->outputs > 1 && v->vga != VM_VGA_VIRTIO && v->vga != VM_VGA_GPU)
		return err_set(e, -EINVAL, "--vga: only virtio and virtio-gpu have several outputs");
	if (vga && !v->vga_memory)
		v->vga_memory = VGA_DEFAULT;
	v->outputs = v->outputs ? v->outputs : 1;
	if (!v->vnc.tls_cert != !v->vnc.tls_key)
		return err_set(e, -EINVAL, "--display: tls-cert= and tls-key= belong together");
	if (v->vnc.tls_cert && v->vnc.tls_anonymous)
		return err_set(e, -EINVAL, "--display: tls=anon and tls-cert= exclude each other");
	return 0;
}

/* cloud-init's disk is the last one; and who looks at SMBIOS first is told that there is one. */
static int add_seed(struct vm_config *v, struct err *e)
{
	int ret = vm_seed_check(&v->seed, e);

	if (ret || !vm_seed_wanted(&v->seed))
		return ret;
	for (unsigned i = 0; i < v->seed.n_keys; i++)
		if (!v->seed.key[i])
			return err_set(e, -EINVAL, "ssh-key.%u is missing", i);
	if (v->n_disks == VM_MAX_DISKS)
		return too_many("disks, with cloud-init's", VM_MAX_DISKS, e);
	v->disk[v->n_disks].seed = v->disk[v->n_disks].there = true;
	v->disk[v->n_disks].no_iothread = true;
	v->disk[v->n_disks++].open.file.read_only = true;
	return v->smbios.at[SMBIOS_SYSTEM + 3] ? 0 : smbios_user_set(&v->smbios, 1, "serial", "ds=nocloud");
}

/* What only shows when all keys are known. */
static int check_whole(struct vm_config *v, struct err *e)
{
	int ret = 0;

	if (v->incoming_tls && !v->incoming)
		return err_set(e, -EINVAL, "--incoming-tls: there is nothing that comes (--incoming)");
	if (v->incoming && v->from_snapshot)
		return err_set(e, -EINVAL, "--incoming and --from-snapshot: the guest comes from one place or the other");
	if (v->loadvm && (v->incoming || v->from_snapshot || v->exec))
		return err_set(e, -EINVAL, "--loadvm: the guest comes from one place; --incoming, --from-snapshot and --exec are others");
	if (v->incoming && v->exec)
		return err_set(e, -EINVAL, "--incoming: a guest that runs a command (--exec) cannot come from elsewhere");
	if (v->incoming && strcmp(v->incoming, "defer") && mig_uri_check(v->incoming, e))
		return err_prefix(e, -EINVAL, "--incoming");
	if (v->in_place && !v->from_snapshot)
		return err_set(e, -EINVAL, "--in-place is for --from-snapshot");
	for (unsigned i = 0; v->in_place && i < v->n_disks; i++)
		v->disk[i].more.temporary = false;

	ret = check_boot(v, e);
	if (ret)
		return ret;
	ret = add_seed(v, e);
	if (ret)
		return ret;
	for (unsigned i = 0; i < v->n_initrds; i++)
		if (!v->initrd[i])
			return err_set(e, -EINVAL, "initrd.%u is missing", i);
	for (unsigned i = 0; i < v->n_objects; i++)
		if (!v->object[i])
			return err_set(e, -EINVAL, "object.%u is missing", i);
	for (unsigned i = 0; i < v->n_blockdevs; i++)
		if (!v->blockdev[i])
			return err_set(e, -EINVAL, "blockdev.%u is missing", i);
	for (unsigned i = 0; i < v->n_disks && !ret; i++)
		ret = config_check_disk(v, i, e);
	for (unsigned i = 0; i < v->n_nets && !ret; i++)
		ret = config_check_net(&v->net[i], i, v, e);
	if (!ret && v->debugcon == VM_CONSOLE_PTY)
		ret = err_set(e, -EINVAL, "--debugcon is stdio, none or a file");
	if (!ret && v->debugcon == VM_CONSOLE_STDIO && v->console == VM_CONSOLE_STDIO)
		ret = err_set(e, -EINVAL, "--debugcon stdio needs --console none (or a file)");
	if (!ret && v->exec && v->console == VM_CONSOLE_STDIO)
		ret = err_set(e, -EINVAL, "--exec uses standard input and output for the command; "
			      "use --console none, pty or a file");
	if (!ret && v->machine == VM_MACHINE_MICRO && (v->debug_exit || v->test_device))
		ret = err_set(e, -EINVAL, "--debug-exit and --test-device exist on --machine pc only");
	if (!ret)
		ret = config_check_cpus(v, e);
	if (!ret)
		ret = config_check_numa(v, e);
	if (!ret)
		ret = config_check_backing(v, e);
	if (!ret)
		ret = config_check_memory(v, e);
	if (!ret)
		ret = config_check_root_ports(v, e);
	if (!ret)
		ret = config_check_places(v, e);
	if (!ret)
		ret = check_display(v, e);
	if (!ret)
		ret = config_check_chardevs(v, e);
	if (!ret)
		ret = config_check_shares(v, e);
	if (!ret)
		ret = config_check_vhost_disks(v, e);
	return ret ? ret : config_check_parts(v, e);
}

int vm_config_from(const struct conf *c, struct vm_config *out, struct err *e)
{
	const char *key, *val;
	int ret = 0;

	*out = (struct vm_config){
		.tree = c,
		.name = "guest", .boot_order = "cadn", .n_fw_cfgs = conf_list_len(c, "fw-cfg"), .cpu = "max", .cpus = 1, .memory = 512 * MIB, .append = "",
		.debugcon = VM_CONSOLE_NONE, .balloon = true, .rng = true, .control = true,
		.console = conf_get(c, "exec") ? VM_CONSOLE_NONE : VM_CONSOLE_STDIO,
		.exec_timeout = 300, .shutdown_timeout = 30,
		.ready_fd = -1, .escape = 29, .n_disks = conf_list_len(c, "disk"), .n_nets = conf_list_len(c, "net"),
		.n_objects = conf_list_len(c, "object"), .n_blockdevs = conf_list_len(c, "blockdev"),
		.n_initrds = conf_list_len(c, "initrd"), .n_usb = conf_list_len(c, "usb"),
	};
	config_defaults(c, out);
	for (unsigned i = 0; i < VM_MAX_NETS; i++)
		config_clear_net(&out->net[i]);
	for (unsigned i = 0; i < VM_MAX_DISKS; i++)
		config_clear_disk(&out->disk[i]);
	for (size_t i = 0; !ret && conf_nth(c, i, &key, &val); i++) {
		char opt[64];

		ret = config_set(key, val, out, e);
		option_of(out, key, opt, sizeof(opt));
		if (ret == -ENOENT)
			ret = err_set(e, -EINVAL, "'%s' is not a configuration key", key);
		else if (ret)
			err_prefix(e, ret, "%s", opt);
	}
	return ret ? ret : check_whole(out, e);
}
