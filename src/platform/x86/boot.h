/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading a kernel image: what the loaders share.
 *
 * Image files are hostile: every offset and size in them is checked against
 * the file's length and the guest's memory.  Bytes go from the file straight
 * into guest memory.
 */
#ifndef LODGE_PLATFORM_X86_BOOT_H
#define LODGE_PLATFORM_X86_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cpu/x86/state.h"
#include "machine/mem.h"
#include "platform/x86/e820.h"

/* A file open for reading: by descriptor, or as bytes in memory (pipes, fuzzing). */
struct boot_file {
	const char *path;
	const char *what;	/* "kernel", "initrd": for messages */
	int fd;			/* -1: data */
	uint8_t *data;
	bool data_owned;
	uint64_t size;
};

/* Errors name the file: missing, no permission, a directory, empty. */
int boot_file_open(struct boot_file *f, const char *path, const char *what, struct err *e);
void boot_file_of_memory(struct boot_file *f, const char *path, const char *what, void *data, size_t len);
void boot_file_close(struct boot_file *f);
/* Exactly len bytes from off; -EIO with a message (file truncated while read, I/O error). */
int boot_file_read(const struct boot_file *f, uint64_t off, void *buf, uint64_t len, struct err *e);

/* How the boot processor starts; the others wait for SIPI. */
enum boot_mode { BOOT_RESET_VECTOR, BOOT_PM32, BOOT_LONG64 };

struct boot_start {
	enum boot_mode mode;
	uint64_t rip, rax, rbx, rsi;
};

struct boot_ctx {
	struct mem *mem;
	const struct e820 *e820;
	uint64_t mem_size;
	uint64_t rsdp;		/* GPA of the RSDP */
	const char *cmdline;
	struct boot_file *kernel;
	struct boot_file *initrds;
	unsigned n_initrds;
	const char *kind;	/* out: what the kernel image was */
	struct boot_start start;	/* out */
};

/* Recognises the image and loads it: bzImage, Multiboot 1, PVH ELF.  The order
 * matters for ELF files: Multiboot header first (test kernels have both). */
int boot_load(struct boot_ctx *b, struct err *e);

/* 1 loaded, 0 not this kind of image, -errno with a message. */
int boot_linux(struct boot_ctx *b, struct err *e);
int boot_multiboot(struct boot_ctx *b, struct err *e);
int boot_pvh(struct boot_ctx *b, struct err *e);

/* --- helpers for the loaders (boot.c) --- */

/* Copies [off, off+len) of f to gpa; the target must be RAM outside the
 * structures in low memory that boot_reserve names.  what names the part. */
int boot_copy(struct boot_ctx *b, const struct boot_file *f, uint64_t off, uint64_t len, uint64_t gpa,
	      const char *part, struct err *e);
/* Zeroes guest memory; same checks. */
int boot_zero(struct boot_ctx *b, const struct boot_file *f, uint64_t gpa, uint64_t len, const char *part,
	      struct err *e);
/* Is [gpa, gpa+len) RAM the OS may use (one e820 RAM entry), above the boot structures? */
bool boot_range_ok(const struct boot_ctx *b, uint64_t gpa, uint64_t len);
/* The highest aligned address for len bytes of RAM in [min, max), or 0. avoid: a range not to touch. */
uint64_t boot_place(const struct boot_ctx *b, uint64_t len, uint64_t align, uint64_t min, uint64_t max,
		    uint64_t avoid, uint64_t avoid_len);
/* Writes the boot GDT (BOOT_CS is 64- or 32-bit code) and, for 64-bit entries,
 * the identity page tables. */
int boot_write_gdt(struct boot_ctx *b, bool l64, struct err *e);
int boot_write_pagetables(struct boot_ctx *b, struct err *e);
int boot_write(struct boot_ctx *b, uint64_t gpa, const void *p, uint64_t len, struct err *e);

/* Selectors, as the Linux boot protocol wants them. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18

/* Turns `start` into register values (s was reset). */
void boot_state(const struct boot_start *start, struct x86_state *s);

#endif
