// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Building and (re)starting the machine: what pc and micro have in common.
 * The parts themselves are listed in pc.c and micro.c, one after another.
 */
#include "platform/x86/platform.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chipset/ns16550.h"
#include "pci/pci.h"
#include "platform/x86/boot.h"
#include "platform/x86/priv.h"

#define MIN_MEM LAYOUT_MIB
#define DEFAULT_PHYS_BITS 40

static int add_ram(struct platform *p, struct err *e)
{
	uint64_t size = p->cfg.mem_size, low = e820_low_size(size), high = e820_high_size(size);
	uint64_t first = p->kind->legacy ? LAYOUT_HIGH_START : LAYOUT_SHADOW;
	struct mem *mem = p->m->mem;
	const struct platform_ram *from = p->cfg.ram;
	uint64_t all = platform_backing_size(&p->cfg);
	int r;

	mem_reserve(mem, all - size - p->cfg.vram_size);
	r = from ? mem_create_ram_from(mem, all, p->cfg.mem_huge, from->image, from->copy, e) :
		mem_create_ram(mem, all, p->cfg.mem_huge, e);
	if (r == 0)
		r = mem_add_ram(mem, "ram.base", 0, 0, LAYOUT_LOW_END, e);
	/* On pc what lies between there and 1 MiB is the host bridge's to show. */
	if (r == 0 && low > first)
		r = mem_add_ram(mem, "ram.low", first, first, low - first, e);
	if (r == 0 && high)
		r = mem_add_ram(mem, "ram.high", LAYOUT_4G, low, high, e);
	return r;
}

static int check_config(struct platform *p, struct err *e)
{
	const struct platform_config *c = &p->cfg;

	if (c->mem_size < MIN_MEM || c->mem_size % PAGE_4K)
		return err_set(e, -EINVAL, "memory size %llu: needs at least 1 MiB, in units of 4 KiB",
			       (unsigned long long)c->mem_size);
	if (c->n_vcpus < 1 || c->n_vcpus > MACHINE_MAX_VCPUS)
		return err_set(e, -EINVAL, "%u vCPUs: between 1 and %u are possible", c->n_vcpus, MACHINE_MAX_VCPUS);
	if (p->phys_bits < 36 || p->phys_bits > 52 || memory_top(p) > BIT64(p->phys_bits))
		return err_set(e, -EINVAL, "%llu MiB of memory do not fit into %u physical address bits",
			       (unsigned long long)(platform_backing_size(c) - c->vram_size) >> 20, p->phys_bits);
	return 0;
}

int platform_new(struct machine *m, struct cpu_engine *engine, const struct platform_config *cfg,
		 struct platform **out, struct err *e)
{
	struct platform *p = calloc(1, sizeof(*p));
	int r;

	*out = NULL;
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->m = m;
	p->engine = engine;
	p->cfg = *cfg;
	p->phys_bits = cfg->phys_bits ? cfg->phys_bits : DEFAULT_PHYS_BITS;
	for (unsigned i = 0; i < 4; i++)
		p->pirq_route[i] = -1;
	p->kind = cfg->kind == PLATFORM_MICRO ? &platform_micro : &platform_pc;
	r = check_config(p, e);
	if (r == 0)
		r = add_ram(p, e);
	if (r == 0) {
		e820_build(&p->e820, cfg->mem_size, cfg->kind == PLATFORM_PC);
		r = irqs_build(p, e);
	}
	if (r == 0)
		r = p->kind->build(p, e);
	if (r == 0)
		r = serial_build(p, e);
	if (r == 0)
		r = parts_build(p, e);
	if (r == 0)
		r = video_build(p, e);
	if (r == 0)
		r = cpus_build(p, e);
	/* On an error too: devices built so far hold wires into it. */
	*out = p;
	return r;
}

void platform_free(struct platform *p)
{
	free(p);
}

struct pci_bus *platform_pci_bus(struct platform *p)
{
	return p->pci;
}

int platform_add_virtio(struct platform *p, struct virtio_dev *d, struct err *e)
{
	return platform_add_virtio_on(p, d, p->pci, PCI_ANY_DEVFN, e);
}

int platform_add_virtio_on(struct platform *p, struct virtio_dev *d, struct pci_bus *bus, int devfn, struct err *e)
{
	int r = p->kind->add_virtio(p, d, bus, devfn, e);

	if (r < 0)
		d->ops->free(d);
	return r;
}

void platform_power_button(struct platform *p)
{
	p->kind->power_button(p);
}

const char *platform_boot_kind(const struct platform *p)
{
	return p->boot_kind ? p->boot_kind : "none";
}

int serial_build(struct platform *p, struct err *e)
{
	static const struct {
		const char *id;
		uint16_t port;
		uint8_t gsi;
	} com[PLATFORM_MAX_SERIAL] = {
		{ "com1", LAYOUT_PORT_COM1, LAYOUT_GSI_COM1 },
		{ "com2", LAYOUT_PORT_COM2, LAYOUT_GSI_COM2 },
		{ "com3", LAYOUT_PORT_COM3, LAYOUT_GSI_COM1 },
		{ "com4", LAYOUT_PORT_COM4, LAYOUT_GSI_COM2 },
	};
	struct ns16550 *uart;
	int r = 0;

	for (int i = 0; i < PLATFORM_MAX_SERIAL && r == 0; i++) {
		struct ns16550_config c = { .id = com[i].id, .base = com[i].port, .chr = p->cfg.serial[i],
					   .output_only = p->cfg.serial_output_only };

		if (!c.chr)
			continue;
		c.irq = gsi_share(p, com[i].gsi);
		r = ns16550_new(p->m, &c, &uart);
	}
	return r < 0 ? err_set(e, r, "out of memory for the serial ports") : 0;
}

/* The memory types firmware would have set: write-back, the PCI hole uncached, in
 * naturally aligned pieces. */
static void set_mtrrs(const struct platform *p, struct x86_state *s)
{
	const uint64_t enable = 0x800, write_back = 6, uncached = 0;
	unsigned n = 0;

	s->mtrr_def_type = enable | write_back;
	for (uint64_t at = LAYOUT_LOW_MAX, size; at < LAYOUT_4G; at += size, n++) {
		size = at & -at;
		s->mtrr_var[n][0] = at | uncached;
		s->mtrr_var[n][1] = ((BIT64(p->phys_bits) - 1) & ~(size - 1)) | enable;
	}
}

int platform_set_vcpu(struct platform *p, unsigned id, const struct boot_start *start, struct err *e)
{
	struct vcpu *v = p->m->vcpus[id];
	struct x86_state *s;
	int r;

	if (!v)
		return 0;	/* an engine without CPUs */
	s = aligned_alloc(64, align_up(sizeof(*s), 64));
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	x86_state_reset(s, id, 0);
	if (!p->firmware)
		set_mtrrs(p, s);
	/* Enabled, boot processor.  One that is not there is off, so that an engine's own local APIC hears nothing. */
	s->apic_base = LAYOUT_LAPIC | (atomic_load(&v->absent) ? 0 : 0x800) | (id == 0 ? 0x100 : 0);
	s->activity = id == 0 ? X86_ACTIVE : X86_WAIT_SIPI;
	if (id == 0)
		boot_state(start, s);
	r = p->engine->ops->state_set(v, s);
	free(s);
	return r < 0 ? err_set(e, r, "vCPU %u: its start state was refused (%s)", id, strerror(-r)) : 0;
}

static int load_images(struct platform *p, uint64_t rsdp, struct boot_start *start, struct err *e)
{
	const struct platform_config *c = &p->cfg;
	struct boot_file kernel, *initrds = calloc(c->n_initrds + 1, sizeof(*initrds));
	struct boot_ctx b = {
		.mem = p->m->mem,
		.e820 = &p->e820,
		.mem_size = c->mem_size,
		.rsdp = rsdp,
		.cmdline = c->cmdline ? c->cmdline : "",
		.kernel = &kernel,
		.initrds = initrds,
	};
	int r;

	if (!initrds)
		return err_set(e, -ENOMEM, "out of memory");
	r = boot_file_open(&kernel, c->kernel, "kernel", e);
	if (r < 0)
		goto out;
	for (; b.n_initrds < c->n_initrds && r == 0; b.n_initrds += r == 0)
		r = boot_file_open(&initrds[b.n_initrds], c->initrds[b.n_initrds], "initrd", e);
	if (r == 0)
		r = boot_load(&b, e);
	*start = b.start;
	p->boot_kind = b.kind;
	for (unsigned i = 0; i < b.n_initrds; i++)
		boot_file_close(&initrds[i]);
	boot_file_close(&kernel);
out:
	free(initrds);
	return r;
}

static void outb(struct platform *p, uint16_t port, uint8_t v)
{
	bus_access_locked(p->m->pio, port, &v, 1, true);
}

/* The 8259 pair as a PC's firmware sets it up for real mode: vectors 08h and 70h,
 * edge, cascaded.  Test kernels that go back to real mode rely on it. */
static void init_pics(struct platform *p)
{
	outb(p, 0x20, 0x11);
	outb(p, 0x21, 0x08);
	outb(p, 0x21, 0x04);
	outb(p, 0x21, 0x01);
	outb(p, 0xa0, 0x11);
	outb(p, 0xa1, 0x70);
	outb(p, 0xa1, 0x02);
	outb(p, 0xa1, 0x01);
}

/* What firmware would do, and a kernel if there is one. */
static int boot_directly(struct platform *p, struct boot_start *start, struct err *e)
{
	static const uint8_t pirq_lines[4] = { LAYOUT_PIC_PCI_A, LAYOUT_PIC_PCI_B, LAYOUT_PIC_PCI_A,
					       LAYOUT_PIC_PCI_B };
	uint64_t rsdp;
	int r;

	if (p->kind->init_without_firmware)
		p->kind->init_without_firmware(p);
	if (p->pci)
		pci_root_assign(p->pci, pirq_lines);
	r = tables_write(p, &rsdp, e);
	return r == 0 && p->cfg.kernel ? load_images(p, rsdp, start, e) : r;
}

struct pci_dev *platform_last_card(struct platform *p)
{
	return p->last_card;
}

struct pci_dev *platform_vga(struct platform *p)
{
	return p->pci ? pci_find(p->pci, 0, LAYOUT_PCI_VGA) : NULL;
}

int platform_boot(struct platform *p, struct err *e)
{
	struct boot_start start = { .mode = BOOT_RESET_VECTOR };
	int r = 0;

	machine_reset_devs(p->m);
	if (!p->firmware)
		r = boot_directly(p, &start, e);
	if (r == 0 && start.mode == BOOT_PM32 && p->cfg.kind == PLATFORM_PC && !p->kernel_irqchip)
		init_pics(p);
	for (unsigned i = 0; i < p->cfg.n_vcpus && r == 0; i++)
		r = platform_set_vcpu(p, i, &start, e);
	return r;
}
