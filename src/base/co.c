/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coroutines by switching stacks: the registers a call preserves are pushed, the
 * stack pointer is exchanged, and the other side's registers are popped.  The
 * floating-point control words are the same for all code here.
 *
 * A stack is a mapping of its own with an inaccessible page below; pages that
 * were never touched cost nothing.  AddressSanitizer and ThreadSanitizer are
 * told of every switch, since they keep books about stacks.
 */
#include "base/co.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/bits.h"

#define STACK_SIZE (256u << 10)
#define GUARD 4096u
#define MAX_IDLE 32

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define CO_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define CO_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif

struct co {
	void *sp, *back_sp;		/* ours while we wait; the resumer's while we run */
	void (*fn)(struct co *c, void *arg);
	void *arg;
	struct co_pool *pool;
	bool ended;
	uint8_t *stack;			/* GUARD, then STACK_SIZE */
	struct co *next;		/* idle in the pool, or waiting for a mutex */
	bool owns;
#ifdef CO_ASAN
	void *fake, *back_fake;
	const void *back_bottom;
	size_t back_size;
#endif
#ifdef CO_TSAN
	void *fiber, *back_fiber;
#endif
};

#ifndef __x86_64__
#error "coroutines know the x86-64 calling convention only"
#endif
/* Saves the stack pointer to *save and takes `to`. */
void lodge_co_switch(void **save, void *to);
void lodge_co_first(void);
__asm__(".text\n"
	".type lodge_co_switch, @function\n"
	".globl lodge_co_switch\n.hidden lodge_co_switch\n"
	"lodge_co_switch:\n"
	"	push %rbp\n	push %rbx\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbx\n	pop %rbp\n"
	"	ret\n"
	".size lodge_co_switch, . - lodge_co_switch\n"
	".type lodge_co_first, @function\n"
	".globl lodge_co_first\n.hidden lodge_co_first\n"
	"lodge_co_first:\n"
	"	mov %r12, %rdi\n	call *%r13\n	ud2\n"
	".size lodge_co_first, . - lodge_co_first\n");

static void to_co(struct co *c)
{
#ifdef CO_ASAN
	__sanitizer_start_switch_fiber(&c->back_fake, c->stack + GUARD, STACK_SIZE);
#endif
#ifdef CO_TSAN
	c->back_fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(c->fiber, 0);
#endif
	lodge_co_switch(&c->back_sp, c->sp);
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(c->back_fake, NULL, NULL);
#endif
}

static void entered(struct co *c)
{
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(c->fake, &c->back_bottom, &c->back_size);
#else
	(void)c;
#endif
}

static void to_back(struct co *c)
{
#ifdef CO_ASAN
	/* The stack is used anew by the next coroutine, which begins at co_main. */
	__sanitizer_start_switch_fiber(&c->fake, c->back_bottom, c->back_size);
#endif
#ifdef CO_TSAN
	__tsan_switch_to_fiber(c->back_fiber, 0);
#endif
	lodge_co_switch(&c->sp, c->back_sp);
	entered(c);
}

/* The bottom of every stack: coroutine after coroutine. */
static void co_main(struct co *c)
{
	entered(c);
	for (;;) {
		c->fn(c, c->arg);
		c->ended = true;
		to_back(c);
	}
}

static struct co *co_new(struct co_pool *p)
{
	struct co *c = calloc(1, sizeof(*c));
	void **top;

	if (!c)
		return NULL;
	c->stack = mmap(NULL, GUARD + STACK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->stack == MAP_FAILED || mprotect(c->stack + GUARD, STACK_SIZE, PROT_READ | PROT_WRITE)) {
		if (c->stack != MAP_FAILED)
			munmap(c->stack, GUARD + STACK_SIZE);
		free(c);
		return NULL;
	}
	c->pool = p;
	/* What lodge_co_switch pops (r15 r14 r13 r12 rbx rbp), then where it returns to. */
	top = (void **)(void *)(c->stack + GUARD + STACK_SIZE) - 9;
	memset(top, 0, 64);
	top[2] = (void *)(uintptr_t)co_main;
	top[3] = c;
	top[6] = (void *)(uintptr_t)lodge_co_first;
	c->sp = top;
#ifdef CO_TSAN
	c->fiber = __tsan_create_fiber(0);
#endif
	return c;
}

static void co_free(struct co *c)
{
#ifdef CO_TSAN
	__tsan_destroy_fiber(c->fiber);
#endif
	munmap(c->stack, GUARD + STACK_SIZE);
	free(c);
}

void co_resume(struct co *c)
{
	struct co_pool *p = c->pool;

	to_co(c);
	if (!c->ended)
		return;
	if (p->n_idle >= MAX_IDLE) {
		co_free(c);
		return;
	}
	c->next = p->idle;
	p->idle = c;
	p->n_idle++;
}

int co_start(struct co_pool *p, void (*fn)(struct co *c, void *arg), void *arg)
{
	struct co *c = p->idle;

	if (c) {
		p->idle = c->next;
		p->n_idle--;
	} else {
		c = co_new(p);
		if (!c)
			return -ENOMEM;
	}
	c->fn = fn;
	c->arg = arg;
	c->ended = false;
	co_resume(c);
	return 0;
}

void co_wait(struct co *c)
{
	to_back(c);
}

void co_pool_fini(struct co_pool *p)
{
	while (p->idle) {
		struct co *c = p->idle;

		p->idle = c->next;
		co_free(c);
	}
	p->n_idle = 0;
}

void co_lock(struct co *c, struct co_mutex *m)
{
	if (!m->held) {
		m->held = true;
		return;
	}
	c->owns = false;
	c->next = NULL;
	if (m->last)
		m->last->next = c;
	else
		m->first = c;
	m->last = c;
	while (!c->owns)
		co_wait(c);
}

void co_unlock(struct co_mutex *m)
{
	struct co *c = m->first;

	if (!c) {
		m->held = false;
		return;
	}
	m->first = c->next;
	if (!m->first)
		m->last = NULL;
	c->owns = true;
	co_resume(c);
}
