/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small integer helpers: masks, alignment, unaligned little-endian access. */
#ifndef LODGE_BASE_BITS_H
#define LODGE_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n) (1u << (n))
#define BIT64(n) (1ull << (n))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static inline uint64_t align_down(uint64_t v, uint64_t a) { return v & ~(a - 1); }
static inline uint64_t align_up(uint64_t v, uint64_t a) { return (v + a - 1) & ~(a - 1); }
static inline bool is_pow2(uint64_t v) { return v && !(v & (v - 1)); }

static inline uint16_t ld_le16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t ld_le32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t ld_le64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline void st_le16(void *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void st_le32(void *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void st_le64(void *p, uint64_t v) { memcpy(p, &v, 8); }

/* The low `len` (1, 2, 4 or 8) bytes at p as a number, and back. */
static inline uint64_t ld_le(const void *p, unsigned len)
{
	uint64_t v = 0;

	memcpy(&v, p, len <= 8 ? len : 8);
	return v;
}
static inline void st_le(void *p, unsigned len, uint64_t v) { memcpy(p, &v, len <= 8 ? len : 8); }

#endif
