/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The linker has all of the program's allocations come here, see hunger.h. */
#include "hunger.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
char *__real_strdup(const char *s);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
char *__wrap_strdup(const char *s);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);

void *__wrap_malloc(size_t n) { return hunger_denies() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t each) { return hunger_denies() ? NULL : __real_calloc(n, each); }
void *__wrap_realloc(void *p, size_t n) { return hunger_denies() ? NULL : __real_realloc(p, n); }
void *__wrap_aligned_alloc(size_t align, size_t n) { return hunger_denies() ? NULL : __real_aligned_alloc(align, n); }
char *__wrap_strdup(const char *s) { return hunger_denies() ? NULL : __real_strdup(s); }

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	if (!hunger_denies())
		return __real_mmap(at, n, prot, flags, fd, off);
	errno = ENOMEM;
	return MAP_FAILED;
}
