// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the loaders share: placing bytes in guest memory, the GDT and page
 * tables of the entry conditions, and the boot processor's registers.
 */
#include "platform/x86/boot.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "platform/x86/layout.h"

int boot_load(struct boot_ctx *b, struct err *e)
{
	int r = boot_linux(b, e);

	if (!r)
		r = boot_multiboot(b, e);
	if (!r)
		r = boot_pvh(b, e);
	if (r > 0)
		return 0;
	if (r < 0)
		return r;
	return err_set(e, -ENOEXEC,
		       "kernel %s: not a kernel image (no Linux bzImage, Multiboot or PVH ELF header in it)",
		       b->kernel->path);
}

/* Images may use everything from 1 MiB on, and of low memory what lies between
 * the boot lists and the EBDA, and where only the 64-bit Linux entry (whose image
 * is high) has its page tables: real-mode test kernels live there.  The rest is
 * taken by the structures of layout.h. */
bool boot_range_ok(const struct boot_ctx *b, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < b->e820->n; i++) {
		const struct e820_entry *r = &b->e820->e[i];

		if (r->type == E820_RAM && gpa >= r->addr && range_inside(gpa - r->addr, len, r->size))
			return gpa >= LAYOUT_BOOT_LISTS + LAYOUT_BOOT_LISTS_SIZE ||
			       (gpa >= LAYOUT_BOOT_INFO + PAGE_4K && gpa + len <= LAYOUT_CMDLINE);
	}
	return false;
}

uint64_t boot_place(const struct boot_ctx *b, uint64_t len, uint64_t align, uint64_t min, uint64_t max,
		    uint64_t avoid, uint64_t avoid_len)
{
	uint64_t best = 0;

	for (unsigned i = 0; i < b->e820->n; i++) {
		const struct e820_entry *r = &b->e820->e[i];
		uint64_t lo = MAX(r->addr, min), hi = MIN(r->addr + r->size, max), at;

		if (r->type != E820_RAM || lo < LAYOUT_HIGH_START || hi <= lo || len > hi - lo)
			continue;
		at = align_down(hi - len, align);
		if (at < avoid + avoid_len && avoid < at + len)
			at = avoid >= len ? align_down(avoid - len, align) : 0;
		if (at >= lo && at > best)
			best = at;
	}
	return best;
}

static int check_target(struct boot_ctx *b, const struct boot_file *f, uint64_t gpa, uint64_t len,
			const char *part, struct err *e)
{
	if (boot_range_ok(b, gpa, len))
		return 0;
	return err_set(e, -ENOMEM, "%s %s: %s at 0x%llx (%llu bytes) does not fit into the guest's %llu MiB of memory",
		       f->what, f->path, part, (unsigned long long)gpa, (unsigned long long)len,
		       (unsigned long long)(b->mem_size >> 20));
}

/* Brings the pages in at one go: a fault for each costs more than the copy.  A
 * hint; kernels before 5.14 refuse it. */
static void populate(void *p, uint64_t len)
{
	uintptr_t at = (uintptr_t)p & ~(uintptr_t)(PAGE_4K - 1);

	madvise((void *)at, (uintptr_t)p + len - at, MADV_POPULATE_WRITE);
}

/*
 * From the page cache into the memory's file, in the kernel: pages that are filled
 * whole need not be cleared or mapped first.  Returns how many bytes it did; what
 * it could not do (pipes, hugetlbfs, errors) is read the ordinary way.
 */
static uint64_t send_to_ram(struct boot_ctx *b, const struct boot_file *f, uint64_t off, uint64_t len, uint64_t gpa)
{
	struct mem_range r;
	uint64_t done = 0;
	off_t at = (off_t)off;
	ssize_t n;

	if (f->fd < 0 || !mem_find(b->mem, gpa, &r) || r.fd < 0 || !range_inside(gpa - r.gpa, len, r.size))
		return 0;
	if (lseek(r.fd, (off_t)(r.fd_offset + (gpa - r.gpa)), SEEK_SET) < 0)
		return 0;
	while (done < len) {
		n = sendfile(r.fd, f->fd, &at, len - done);
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	return done;
}

int boot_copy(struct boot_ctx *b, const struct boot_file *f, uint64_t off, uint64_t len, uint64_t gpa,
	      const char *part, struct err *e)
{
	int r = check_target(b, f, gpa, len, part, e);
	uint64_t sent;
	uint8_t *p;

	if (r < 0 || !len)
		return r;
	p = mem_ptr(b->mem, gpa, len, true);
	if (!p)
		return err_set(e, -EFAULT, "%s %s: %s lies outside guest memory", f->what, f->path, part);
	sent = send_to_ram(b, f, off, len, gpa);
	if (sent < len) {
		populate(p + sent, len - sent);
		r = boot_file_read(f, off + sent, p + sent, len - sent, e);
	}
	mem_written(b->mem, gpa, len);
	return r;
}

int boot_zero(struct boot_ctx *b, const struct boot_file *f, uint64_t gpa, uint64_t len, const char *part,
	      struct err *e)
{
	int r = check_target(b, f, gpa, len, part, e);
	void *p;

	if (r < 0 || !len)
		return r;
	p = mem_ptr(b->mem, gpa, len, true);
	if (!p)
		return err_set(e, -EFAULT, "%s %s: %s lies outside guest memory", f->what, f->path, part);
	memset(p, 0, len);
	mem_written(b->mem, gpa, len);
	return 0;
}

int boot_write(struct boot_ctx *b, uint64_t gpa, const void *p, uint64_t len, struct err *e)
{
	int r = mem_write(b->mem, gpa, p, len);

	if (r < 0)
		return err_set(e, r, "guest memory is too small for the boot information (%llu KiB)",
			       (unsigned long long)(b->mem_size >> 10));
	return 0;
}

/* Flat segments, accessed bits set. */
int boot_write_gdt(struct boot_ctx *b, bool l64, struct err *e)
{
	const uint64_t code32 = 0x00cf9b000000ffffull, code64 = 0x00af9b000000ffffull;
	const uint64_t gdt[] = { 0, 0, l64 ? code64 : code32, 0x00cf93000000ffffull };

	return boot_write(b, LAYOUT_BOOT_GDT, gdt, sizeof(gdt), e);
}

/* The first 4 GiB, identity, 2 MiB pages: PML4, one PDPT, four PDs. */
int boot_write_pagetables(struct boot_ctx *b, struct err *e)
{
	const uint64_t flags = 0x3;	/* present, writable */
	uint64_t page[512];
	int r;

	memset(page, 0, sizeof(page));
	page[0] = (LAYOUT_BOOT_PT + PAGE_4K) | flags;
	r = boot_write(b, LAYOUT_BOOT_PT, page, sizeof(page), e);
	for (unsigned i = 0; i < 4; i++)
		page[i] = (LAYOUT_BOOT_PT + (2 + i) * PAGE_4K) | flags;
	if (r == 0)
		r = boot_write(b, LAYOUT_BOOT_PT + PAGE_4K, page, sizeof(page), e);
	for (unsigned i = 0; i < 4 && r == 0; i++) {
		for (unsigned j = 0; j < 512; j++)
			page[j] = ((uint64_t)(i * 512 + j) << 21) | flags | 0x80;
		r = boot_write(b, LAYOUT_BOOT_PT + (2 + i) * PAGE_4K, page, sizeof(page), e);
	}
	return r;
}

static struct x86_seg flat(uint16_t sel, uint32_t attr)
{
	return (struct x86_seg){ .sel = sel, .limit = 0xffffffff, .attr = attr };
}

void boot_state(const struct boot_start *start, struct x86_state *s)
{
	const uint32_t data = X86_AR_P | X86_AR_S | X86_AR_DB | X86_AR_G | 3;
	const uint32_t code = X86_AR_P | X86_AR_S | X86_AR_G | 0xb;
	bool l64 = start->mode == BOOT_LONG64;

	if (start->mode == BOOT_RESET_VECTOR)
		return;
	s->rip = start->rip;
	s->rflags = X86_FL_FIXED;
	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[X86_RAX] = start->rax;
	s->gpr[X86_RBX] = start->rbx;
	s->gpr[X86_RSI] = start->rsi;
	for (int i = 0; i < X86_NSEG; i++)
		s->seg[i] = flat(BOOT_DS, data);
	s->seg[X86_CS] = flat(BOOT_CS, code | (l64 ? X86_AR_L : X86_AR_DB));
	s->seg[X86_TR] = (struct x86_seg){ .limit = 0x67, .attr = X86_AR_P | 0xb };
	s->seg[X86_LDTR] = (struct x86_seg){ .attr = X86_AR_UNUSABLE };
	s->gdtr = (struct x86_dtable){ .base = LAYOUT_BOOT_GDT, .limit = 4 * 8 - 1 };
	s->idtr = (struct x86_dtable){ 0 };
	s->cr0 = X86_CR0_PE | X86_CR0_ET;
	s->cr3 = s->cr4 = 0;
	s->efer = 0;
	if (l64) {
		s->cr0 |= X86_CR0_PG;
		s->cr3 = LAYOUT_BOOT_PT;
		s->cr4 = X86_CR4_PAE;
		s->efer = X86_EFER_LME | X86_EFER_LMA;
	}
	s->activity = X86_ACTIVE;
}
