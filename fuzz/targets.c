/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices the generic fuzzer knows.  A new one: a setup function, a line in
 * the table, its name in fuzz/meson.build.
 */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chardev/chardev.h"
#include "chipset/acpi_ged.h"
#include "chipset/acpi_pm.h"
#include "chipset/fw_cfg.h"
#include "chipset/hpet.h"
#include "chipset/i8042.h"
#include "chipset/i82093aa.h"
#include "chipset/i8254.h"
#include "chipset/i8259.h"
#include "chipset/lapic.h"
#include "chipset/mc146818.h"
#include "chipset/ns16550.h"
#include "chipset/pflash_cfi01.h"
#include "chipset/port92.h"
#include "chipset/pvpanic.h"
#include "chipset/test_dev.h"
#include "device/vga.h"
#include "display/display.h"
#include "pci/pci.h"
#include "platform/x86/platform.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/rng.h"

static void input(struct fuzz_ctx *c, struct irq w)
{
	if (c->n_in < FUZZ_MAX_INPUTS)
		c->in[c->n_in++] = w;
}

/* Chips. */

static void take_pic(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	machine_lock(c->p->m);
	i8259_ack(c->opaque);
	machine_unlock(c->p->m);
}

static int setup_i8259(struct fuzz_ctx *c)
{
	struct i8259_config cfg = { .master = 0x20, .slave = 0xa0, .elcr = 0x4d0,
				    .intr = puppet_wire(c->p, 0) };
	struct i8259 *p;

	if (i8259_new(c->p->m, &cfg, &p))
		return -1;
	for (int i = 0; i < 16; i++)
		input(c, i8259_irq(p, i));
	c->opaque = p;
	return 0;
}

static int setup_i8254(struct fuzz_ctx *c)
{
	struct i8254_config cfg = { .base = 0x40, .port61 = 0x61, .irq = puppet_wire(c->p, 0) };
	struct i8254 *t;

	if (i8254_new(c->p->m, &cfg, &t))
		return -1;
	input(c, i8254_mute(t));
	return 0;
}

static void eoi(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	machine_lock(c->p->m);
	i82093aa_eoi(c->opaque, what);
	machine_unlock(c->p->m);
}

static int setup_ioapic(struct fuzz_ctx *c)
{
	struct i82093aa_config cfg = { .base = 0xfec00000, .id = 1 };
	struct i82093aa *a;

	if (i82093aa_new(c->p->m, &cfg, &a))
		return -1;
	for (int i = 0; i < I82093AA_PINS; i++)
		input(c, i82093aa_irq(a, i));
	c->opaque = a;
	return 0;
}

static uint8_t fixed_ack(void *opaque)
{
	return 0x30;
}

static int setup_lapic(struct fuzz_ctx *c)
{
	struct lapics_config cfg = { .n = 2, .virtual_wire = true, .extint_ack = fixed_ack };
	struct machine *m = c->p->m;
	struct lapics *l;

	if (c->p->e->ops->vcpu_create(c->p->e, 1, NULL))
		return -1;
	m->n_vcpus = 2;
	if (lapics_new(m, &cfg, &l))
		return -1;
	lapics_attach(l, m->vcpus[0]);
	lapics_attach(l, m->vcpus[1]);
	m->msi = lapics_msi;
	m->msi_opaque = l;
	input(c, lapics_extint(l));
	input(c, lapics_nmi(l));
	return 0;
}

static int setup_pflash(struct fuzz_ctx *c)
{
	struct pflash_cfi01_config cfg = { .id = "pflash", .base = 0xffc00000, .block = 4096 };

	if (mem_rom_new(c->p->m->mem, "array", 16384, &cfg.array, NULL))
		return -1;
	return pflash_cfi01_new(c->p->m, &cfg, NULL);
}

/* Firmware's files: numbered ones, one of 5,000 bytes, an empty one, and one that is made when it is selected. */
static void make_file(void *opaque)
{
	struct fuzz_ctx *c = opaque;
	uint8_t text[40] = { 0 };

	if (fw_cfg_replace(c->opaque, "etc/made", text, sizeof(text)))
		abort();
}

static int setup_fw_cfg(struct fuzz_ctx *c)
{
	static uint8_t data[5000];
	struct fw_cfg *f;

	if (fw_cfg_new(c->p->m, 0x510, &f))
		return -1;
	c->opaque = f;
	memset(data, 0x5a, sizeof(data));
	return fw_cfg_set_int(f, FW_CFG_NB_CPUS, 2, 2) || fw_cfg_set(f, FW_CFG_KERNEL_DATA, data, 100) || fw_cfg_add_file(f, "etc/long", data, sizeof(data)) ||
	       fw_cfg_add_file(f, "etc/empty", NULL, 0) || fw_cfg_add_file(f, "etc/made", data, 64) || fw_cfg_on_select(f, "etc/made", make_file, c) ? -1 : 0;
}

/* A descriptor somewhere in memory, of a control word, a length and an address, and the two writes that start the transfer. */
static void fw_cfg_dma(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	uint8_t d[16] = { 0 };
	uint64_t at = (uint64_t)what << 8 | (len ? buf[0] : 0);
	uint64_t hi = 0, lo = __builtin_bswap32((uint32_t)at);

	memcpy(d, buf, MIN(len, sizeof(d)));
	d[0] = 0;				/* few of the keys there are */
	d[1] &= 0x7f;
	memset(d + 8, 0, len > 20 ? 0 : 5);	/* mostly where there is RAM */
	mem_write(c->p->m->mem, at, d, sizeof(d));
	puppet_pio(c->p->e, 0x514, &hi, 4, true);
	puppet_pio(c->p->e, 0x518, &lo, 4, true);
}

static int setup_hpet(struct fuzz_ctx *c)
{
	struct hpet_config cfg = { .base = 0xfed00000, .route_cap = 0xfffff4,
				   .irq0 = puppet_wire(c->p, 32), .irq8 = puppet_wire(c->p, 33),
				   .mute = { puppet_wire(c->p, 34), puppet_wire(c->p, 35) } };
	struct hpet *h;

	for (int i = 0; i < 24; i++)
		cfg.pin[i] = puppet_wire(c->p, i);
	return hpet_new(c->p->m, &cfg, &h);
}

static int setup_rtc(struct fuzz_ctx *c)
{
	struct mc146818_config cfg = { .base = 0x70, .irq = puppet_wire(c->p, 8),
				       .nmi_mask = puppet_wire(c->p, 9) };
	struct mc146818 *r;

	if (mc146818_new(c->p->m, &cfg, &r))
		return -1;
	input(c, mc146818_mute(r));
	return 0;
}

static void type_keys(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	machine_lock(c->p->m);
	for (size_t i = 0; i < len; i++) {
		if (what & 1)
			i8042_key(c->opaque, buf[i], what & 2, what & 4);
		else
			i8042_mouse(c->opaque, (int8_t)buf[i] * 5, (int8_t)what, (int8_t)(buf[i] >> 5), what);
	}
	machine_unlock(c->p->m);
}

static int setup_i8042(struct fuzz_ctx *c)
{
	struct i8042_config cfg = { .data = 0x60, .command = 0x64, .kbd = puppet_wire(c->p, 1),
				    .aux = puppet_wire(c->p, 12), .a20 = puppet_wire(c->p, 20) };
	struct i8042 *k;

	if (i8042_new(c->p->m, &cfg, &k) || port92_new(c->p->m, 0x92, &cfg.a20))
		return -1;
	c->opaque = k;
	return 0;
}

/* The VGA with somebody who looks. */

#define VGA_RAM (1u << 20)
#define VGA_LFB 0xc0000000u
#define VGA_MMIO 0xc1000000u

struct screen {
	struct display *d;
	struct display_viewer viewer;
	bool looks;
};

static int setup_vga(struct fuzz_ctx *c)
{
	const struct pci_root_config rc = { .cf8 = true };
	struct pci_bus *bus;
	struct vga_config cfg = { .vram_offset = VGA_RAM, .vram_size = VGA_VRAM_MIN,
				  .window = 0xa0000, .ports = 0x3b0, .dispi = 0x1ce };
	struct machine *m = c->p->m;
	struct screen *s = calloc(1, sizeof(*s));

	c->opaque = s;
	if (!s || mem_create_ram(m->mem, VGA_RAM + VGA_VRAM_MIN, MEM_HUGE_NONE, NULL) ||
	    mem_add_ram(m->mem, "ram", 0, 0, 0x10000, NULL) || pci_root_new(m, &rc, &bus, NULL) || display_new(&m->lock, &s->d))
		return -1;
	cfg.display = s->d;
	return vga_new(m, bus, PCI_DEVFN(1, 0), &cfg, NULL);
}

static void vga_config(struct machine *m, unsigned reg, uint32_t v)
{
	uint32_t addr = 0x80000800 | reg;

	bus_access(m->pio, 0xcf8, &addr, 4, true);
	bus_access(m->pio, 0xcfc, &v, 4, true);
}

static void boot_vga(struct fuzz_ctx *c)
{
	machine_lock(c->p->m);
	machine_reset_devs(c->p->m);
	machine_unlock(c->p->m);
	vga_config(c->p->m, PCI_BAR(0), VGA_LFB);
	vga_config(c->p->m, PCI_BAR(2), VGA_MMIO);
	vga_config(c->p->m, PCI_COMMAND, PCI_COMMAND_MEMORY);
}

/* Looks, comes and goes; sets a whole mode, which single accesses rarely do. */
static void look(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	struct screen *s = c->opaque;

	if (what % 4 == 0) {
		s->looks ? display_unwatch(s->d, &s->viewer) : display_watch(s->d, &s->viewer);
		s->looks = !s->looks;
	}
	for (size_t i = 0; what % 4 == 1 && i + 2 < len; i += 3) {
		uint16_t index = buf[i] % 12, v = (uint16_t)(buf[i + 1] | buf[i + 2] << 8);

		bus_access(c->p->m->pio, 0x1ce, &index, 2, true);
		bus_access(c->p->m->pio, 0x1cf, &v, 2, true);
	}
	display_refresh(s->d);
}

static void unplug_vga(struct fuzz_ctx *c)
{
	struct screen *s = c->opaque;

	display_free(s->d);
	free(s);
}

static void type_bytes(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	machine_lock(c->p->m);
	chardev_feed(c->opaque, buf, len);
	machine_unlock(c->p->m);
	puppet_settle(c->p);
}

static void free_chardev(struct fuzz_ctx *c)
{
	chardev_free(c->opaque);
}

static int setup_uart(struct fuzz_ctx *c)
{
	struct ns16550_config cfg = { .id = "com1", .base = 0x3f8, .irq = puppet_wire(c->p, 4) };
	struct ns16550 *u;

	if (chardev_pipe_new(c->p->m->loop, NULL, NULL, &cfg.chr))
		return -1;
	c->opaque = cfg.chr;
	return ns16550_new(c->p->m, &cfg, &u);
}

static void press_power(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	machine_lock(c->p->m);
	if (what & 1)
		acpi_pm_power_button(c->opaque);
	else
		acpi_pm_wake(c->opaque);
	machine_unlock(c->p->m);
}

static int setup_acpi_pm(struct fuzz_ctx *c)
{
	struct acpi_pm_config cfg = { .pm1a_evt = 0x600, .pm1a_cnt = 0x604, .pm_tmr = 0x608,
				      .gpe0 = 0x620, .smi_cmd = 0xb2, .reset = 0xcf9,
				      .sci = puppet_wire(c->p, 9) };
	struct acpi_pm *p;

	if (acpi_pm_new(c->p->m, &cfg, &p))
		return -1;
	for (int i = 0; i < 16; i++)
		input(c, acpi_pm_gpe(p, i * 4));
	c->opaque = p;
	return 0;
}

static void press_ged(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	machine_lock(c->p->m);
	acpi_ged_power_button(c->opaque);
	acpi_ged_raise(c->opaque, what);
	machine_unlock(c->p->m);
}

static int setup_ged(struct fuzz_ctx *c)
{
	struct acpi_ged_config cfg = { .base = 0xfea00000, .irq = puppet_wire(c->p, 9) };
	struct acpi_ged *g;

	if (acpi_ged_new(c->p->m, &cfg, &g))
		return -1;
	c->opaque = g;
	return pvpanic_new(c->p->m, 0x505);
}

static int setup_test_dev(struct fuzz_ctx *c)
{
	struct test_dev_config cfg = { .ports = 0xe0, .irq_ports = 0x2000, .mmio = 0xff000000 };

	for (int i = 0; i < TEST_DEV_IRQS; i++)
		cfg.irq[i] = puppet_wire(c->p, i);
	return test_dev_new(c->p->m, &cfg);
}

/* Cards. */

static int root(struct fuzz_ctx *c, struct pci_bus **bus)
{
	struct pci_root_config cfg = { .ecam_base = 0xe0000000, .ecam_buses = 256, .cf8 = true,
				       .mmio32_base = 0xc0000000, .mmio32_size = 0x10000000,
				       .mmio64_base = 0x100000000, .mmio64_size = 0x100000000,
				       .io_base = 0xc000, .io_size = 0x4000 };

	for (int i = 0; i < 4; i++)
		cfg.intx[i] = puppet_wire(c->p, 16 + i);
	return pci_root_new(c->p->m, &cfg, bus, NULL);
}

/* Where the functions' registers are now. */
static void aim_at_bars(struct fuzz_ctx *c, struct pci_bus *bus)
{
	for (unsigned slot = 0; slot < 8; slot++) {
		struct pci_dev *d = pci_find(bus, 0, PCI_DEVFN(slot, 0));

		for (unsigned n = 0; d && n < PCI_NUM_BARS; n++)
			if (d->bar[n].size && pci_bar_addr(d, n) != UINT64_MAX)
				fuzz_aim(c, d->bar[n].kind == PCI_BAR_IO, pci_bar_addr(d, n), d->bar[n].size);
	}
}

static void boot_pci(struct fuzz_ctx *c)
{
	static const uint8_t lines[4] = { 10, 11, 10, 11 };

	puppet_reset(c->p);
	machine_lock(c->p->m);
	pci_root_assign(c->opaque, lines);
	aim_at_bars(c, c->opaque);
	machine_unlock(c->p->m);
}

static int setup_virtio_rng(struct fuzz_ctx *c)
{
	struct virtio_dev *d;
	struct pci_bus *bus;

	if (root(c, &bus) || virtio_rng_new(c->p->m, "rng0", &d, NULL) ||
	    virtio_pci_new(c->p->m, bus, PCI_DEVFN(1, 0), d, NULL))
		return -1;
	c->opaque = bus;
	return 0;
}

static int setup_virtio_balloon(struct fuzz_ctx *c)
{
	struct virtio_dev *d;
	struct pci_bus *bus;

	if (root(c, &bus) || virtio_balloon_new(c->p->m, "balloon0", &d, NULL) ||
	    virtio_pci_new(c->p->m, bus, PCI_DEVFN(1, 0), d, NULL))
		return -1;
	c->opaque = bus;
	return 0;
}

/* The whole machine. */

struct pc {
	struct platform *platform;
	struct chardev *com1;
};

static void pc_extra(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len)
{
	struct pc *pc = c->opaque;

	machine_lock(c->p->m);
	if (what & 1)
		chardev_feed(pc->com1, buf, len);
	else
		platform_power_button(pc->platform);
	machine_unlock(c->p->m);
	puppet_settle(c->p);
}

static int setup_platform(struct fuzz_ctx *c, enum platform_kind kind)
{
	struct platform_config cfg = { .kind = kind, .mem_size = 2 << 20, .n_vcpus = 1,
				       .debug_exit = true };
	struct pc *pc = calloc(1, sizeof(*pc));
	struct virtio_dev *d;
	struct err e;

	c->opaque = pc;
	c->p->m->msi = NULL;
	if (chardev_pipe_new(c->p->m->loop, NULL, NULL, &pc->com1))
		return -1;
	cfg.serial[0] = pc->com1;
	if (platform_new(c->p->m, c->p->e, &cfg, &pc->platform, &e) ||
	    virtio_rng_new(c->p->m, "rng0", &d, &e) || platform_add_virtio(pc->platform, d, &e) ||
	    virtio_balloon_new(c->p->m, "balloon0", &d, &e) ||
	    platform_add_virtio(pc->platform, d, &e))
		return -1;
	return 0;
}

static void boot_pc(struct fuzz_ctx *c)
{
	struct pc *pc = c->opaque;
	struct pci_bus *bus;
	struct err e;

	machine_lock(c->p->m);
	if (platform_boot(pc->platform, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		abort();
	}
	bus = platform_pci_bus(pc->platform);
	if (bus)
		aim_at_bars(c, bus);
	machine_unlock(c->p->m);
	puppet_settle(c->p);
}

static int setup_pc(struct fuzz_ctx *c)
{
	return setup_platform(c, PLATFORM_PC);
}

static int setup_micro(struct fuzz_ctx *c)
{
	return setup_platform(c, PLATFORM_MICRO);
}

static void unplug_pc(struct fuzz_ctx *c)
{
	chardev_free(((struct pc *)c->opaque)->com1);
}

static void free_pc(struct fuzz_ctx *c)
{
	platform_free(((struct pc *)c->opaque)->platform);
	free(c->opaque);
}

#define PORTS(at, n) { true, at, n }
#define MMIO(at, n) { false, at, n }

static const struct fuzz_target targets[] = {
	{ .name = "i8259", .setup = setup_i8259, .extra = take_pic,
	  .ranges = { PORTS(0x20, 2), PORTS(0xa0, 2), PORTS(0x4d0, 2) } },
	{ .name = "i8254", .setup = setup_i8254, .ranges = { PORTS(0x40, 4), PORTS(0x61, 1) } },
	{ .name = "i82093aa", .setup = setup_ioapic, .extra = eoi,
	  .ranges = { MMIO(0xfec00000, 0x50) } },
	{ .name = "lapic", .setup = setup_lapic, .ranges = { MMIO(0xfee00000, 0x400) } },
	{ .name = "pflash", .setup = setup_pflash, .ranges = { MMIO(0xffc00000, 0x4000) } },
	{ .name = "fw_cfg", .setup = setup_fw_cfg, .extra = fw_cfg_dma, .ranges = { PORTS(0x510, 12) } },
	{ .name = "hpet", .setup = setup_hpet, .ranges = { MMIO(0xfed00000, 0x200) } },
	{ .name = "mc146818", .setup = setup_rtc, .ranges = { PORTS(0x70, 4) } },
	{ .name = "i8042", .setup = setup_i8042, .extra = type_keys,
	  .ranges = { PORTS(0x60, 1), PORTS(0x64, 1), PORTS(0x92, 1) } },
	{ .name = "ns16550", .setup = setup_uart, .extra = type_bytes, .unplug = free_chardev,
	  .ranges = { PORTS(0x3f8, 8) } },
	{ .name = "acpi_pm", .setup = setup_acpi_pm, .extra = press_power,
	  .ranges = { PORTS(0x600, 12), PORTS(0x620, 16), PORTS(0xb2, 2), PORTS(0xcf9, 1) } },
	{ .name = "acpi_ged", .setup = setup_ged, .extra = press_ged,
	  .ranges = { MMIO(0xfea00000, 8), PORTS(0x505, 1) } },
	{ .name = "vga", .setup = setup_vga, .boot = boot_vga, .extra = look, .unplug = unplug_vga, .ram = UINT64_MAX,
	  .ranges = { PORTS(0x3b0, 48), PORTS(0x1ce, 4), PORTS(0xcf8, 8), MMIO(0xa0000, 0x20000), MMIO(VGA_MMIO, 0x1000),
		      MMIO(VGA_LFB, 0x1000) } },
	{ .name = "test_dev", .setup = setup_test_dev,
	  .ranges = { PORTS(0xe0, 16), PORTS(0x2000, 32), MMIO(0xff000000, 0x10000) } },
	{ .name = "virtio-rng-pci", .setup = setup_virtio_rng, .boot = boot_pci,
	  .ranges = { PORTS(0xcf8, 8), MMIO(0xe0008000, 0x1000), MMIO(0, 0x10000) } },
	{ .name = "virtio-balloon-pci", .setup = setup_virtio_balloon, .boot = boot_pci,
	  .ranges = { PORTS(0xcf8, 8), MMIO(0xe0008000, 0x1000), MMIO(0, 0x10000) } },
	{ .name = "pc", .setup = setup_pc, .boot = boot_pc, .extra = pc_extra, .unplug = unplug_pc, .teardown = free_pc,
	  .ram = UINT64_MAX,
	  .ranges = { PORTS(0, 0x1000), PORTS(0xcf8, 8), PORTS(0x600, 0x40), MMIO(0xfec00000, 0x50),
		      MMIO(0xfed00000, 0x200), MMIO(0xfee00000, 0x400), MMIO(0xe0000000, 0x40000),
		      MMIO(0xe0000060, 0x40), MMIO(0xe00f8040, 0xb8), PORTS(0x510, 12), PORTS(0x20, 0x60), PORTS(0x3f8, 8) } },
	{ .name = "micro", .setup = setup_micro, .boot = boot_pc, .extra = pc_extra, .unplug = unplug_pc,
	  .teardown = free_pc, .ram = UINT64_MAX,
	  .ranges = { MMIO(0xd0000000, 0x400), MMIO(0xfea00000, 8), MMIO(0xfec00000, 0x50),
		      MMIO(0xfee00000, 0x400), PORTS(0x3f8, 8), PORTS(0, 0x1000) } },
};

const struct fuzz_target *fuzz_target(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		if (!strcmp(targets[i].name, name))
			return &targets[i];
	return NULL;
}
