// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: a vCPU's accesses arrive at the buses, a stop request is heard in
 * an endless loop, state survives the way into the kernel and back, written
 * pages are in the dirty log, and doorbells signal
 * their eventfd.  The guest code is a few instructions in real mode, which
 * every /dev/kvm runs; without one the tests skip.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "cpu/engine.h"
#include "machine/dirty.h"

#define RAM (2u << 20)
#define CODE 0x1000

struct fix {
	struct machine *m;
	struct cpu_engine *e;
	struct x86_state *s;
	struct bus_region port, mmio;
	uint64_t port_val, mmio_val;
};

static uint64_t on_read(void *opaque, uint64_t off, unsigned len)
{
	return 0x5a;
}

static void on_port(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct fix *f = opaque;

	f->port_val = val;
	if (val == 0xee)	/* the guest's last word */
		vcpu_raise(f->m->vcpus[0], VCPU_EV_STOP);
}

static void on_mmio(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	((struct fix *)opaque)->mmio_val = val;
}

static const struct bus_ops port_ops = { .read = on_read, .write = on_port };
static const struct bus_ops mmio_ops = { .read = on_read, .write = on_mmio };

static int setup_kind(void **state, bool split)
{
	struct cpu_engine_config cfg = { .n_vcpus = 2, .split_irqchip = split };
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	*state = NULL;
	assert_non_null(f);
	if (access("/dev/kvm", R_OK | W_OK)) {
		free(f);
		return 0;
	}
	assert_int_equal(machine_new(&f->m, false), 0);
	if (cpu_engine_kvm.init(f->m, &cfg, &f->e, &e) < 0) {
		print_message("SKIP: %s\n", e.msg);
		machine_free(f->m);
		free(f);
		return 0;
	}
	f->m->n_vcpus = 1;
	assert_int_equal(mem_create_ram(f->m->mem, RAM, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(f->m->mem, "ram", 0, 0, RAM, &e), 0);
	assert_int_equal(cpu_engine_kvm.vcpu_create(f->e, 0, &e), 0);
	f->port = (struct bus_region){ .name = "p", .ops = &port_ops, .opaque = f, .base = 0x10, .size = 4 };
	f->mmio = (struct bus_region){ .name = "m", .ops = &mmio_ops, .opaque = f, .base = 0xb8000, .size = 16 };
	assert_int_equal(bus_add(f->m->pio, &f->port), 0);
	assert_int_equal(cpu_engine_kvm.vcpu_thread_init(f->m->vcpus[0]), 0);
	f->s = aligned_alloc(64, align_up(sizeof(*f->s), 64));
	assert_non_null(f->s);
	machine_reset_devs(f->m);
	x86_state_reset(f->s, 0, 0);
	f->s->apic_base = 0xfee00900;
	f->s->rip = CODE;
	f->s->seg[X86_CS].base = 0;
	f->s->seg[X86_CS].sel = 0;
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_kind(state, false);
}

static int setup_split(void **state)
{
	return setup_kind(state, true);
}

static int teardown(void **state)
{
	struct fix *f = *state;

	if (!f)
		return 0;
	bus_del(&f->port);
	bus_del(&f->mmio);
	cpu_engine_kvm.free(f->e);
	machine_free(f->m);
	free(f->s);
	free(f);
	return 0;
}

static struct fix *have(void **state)
{
	if (!*state) {
		print_message("SKIP: /dev/kvm cannot be opened\n");
		skip();
	}
	return *state;
}

static enum vcpu_stop run(struct fix *f, const void *code, size_t len)
{
	assert_int_equal(mem_write(f->m->mem, CODE, code, len), 0);
	assert_int_equal(cpu_engine_kvm.state_set(f->m->vcpus[0], f->s), 0);
	return cpu_engine_kvm.vcpu_run(f->m->vcpus[0]);
}

static void ports_and_state(void **state)
{
	/* in al,0x10; mov bl,al; mov si,0x1234; mov al,0xee; out 0x10,al; jmp $ */
	static const uint8_t code[] = { 0xe4, 0x10, 0x88, 0xc3, 0xbe, 0x34, 0x12, 0xb0, 0xee, 0xe6, 0x10, 0xeb, 0xfe };
	struct fix *f = have(state);

	assert_int_equal(run(f, code, sizeof(code)), VCPU_STOP_KICK);
	assert_int_equal(f->port_val, 0xee);
	assert_int_equal(cpu_engine_kvm.state_get(f->m->vcpus[0], f->s), 0);
	assert_int_equal(f->s->gpr[X86_RBX] & 0xff, 0x5a);
	assert_int_equal(f->s->gpr[X86_RSI] & 0xffff, 0x1234);
	assert_int_equal(f->s->rip, CODE + 11);	/* settled: behind the OUT */
}

static void mmio(void **state)
{
	/* mov ax,0xb800; mov ds,ax; mov word [4],0xbeef; mov al,0xee; out 0x10,al; jmp $ */
	static const uint8_t code[] = { 0xb8, 0x00, 0xb8, 0x8e, 0xd8, 0xc7, 0x06, 0x04, 0x00, 0xef, 0xbe,
					0xb0, 0xee, 0xe6, 0x10, 0xeb, 0xfe };
	struct fix *f = have(state);
	struct err e;

	assert_int_equal(mem_del(f->m->mem, 0), 0);
	assert_int_equal(mem_add_ram(f->m->mem, "a", 0, 0, 0xa0000, &e), 0);
	assert_int_equal(bus_add(f->m->mmio, &f->mmio), 0);
	assert_int_equal(run(f, code, sizeof(code)), VCPU_STOP_KICK);
	assert_int_equal(f->mmio_val, 0xbeef);
}

static void *kicker(void *opaque)
{
	struct fix *f = opaque;

	usleep(50000);
	vcpu_raise(f->m->vcpus[0], VCPU_EV_STOP);
	return NULL;
}

static void stops_in_a_loop(void **state)
{
	static const uint8_t code[] = { 0xeb, 0xfe };
	struct fix *f = have(state);
	pthread_t t;

	f->m->vcpus[0]->thread = pthread_self();
	f->m->vcpus[0]->has_thread = true;
	assert_int_equal(pthread_create(&t, NULL, kicker, f), 0);
	assert_int_equal(run(f, code, sizeof(code)), VCPU_STOP_KICK);
	pthread_join(t, NULL);
	/* A request that was there before is heard too. */
	vcpu_raise(f->m->vcpus[0], VCPU_EV_STOP);
	assert_int_equal(cpu_engine_kvm.vcpu_run(f->m->vcpus[0]), VCPU_STOP_KICK);
}

static void state_goes_round(void **state)
{
	struct fix *f = have(state);
	struct x86_state *t = aligned_alloc(64, align_up(sizeof(*t), 64));

	assert_non_null(t);
	for (int i = 0; i < 16; i++) {
		f->s->gpr[i] = 0x1111111111111111ull * (unsigned)i;
		memset(f->s->fpu.zmm[i], i + 1, 16);
	}
	f->s->dr[0] = 0x1234;
	f->s->lstar = 0xffffffff81000000ull;
	f->s->kernel_gs_base = 0xffff888000000000ull;
	f->s->fpu.mxcsr = 0x1fa0;
	f->s->seg[X86_FS].base = 0x12340;
	f->s->gdtr = (struct x86_dtable){ .base = 0x5000, .limit = 0x27 };
	assert_int_equal(cpu_engine_kvm.state_set(f->m->vcpus[0], f->s), 0);
	assert_int_equal(cpu_engine_kvm.state_get(f->m->vcpus[0], t), 0);
	assert_memory_equal(t->gpr, f->s->gpr, sizeof(t->gpr));
	for (int i = 0; i < 16; i++)
		assert_memory_equal(t->fpu.zmm[i], f->s->fpu.zmm[i], 16);
	assert_int_equal(t->fpu.mxcsr, 0x1fa0);
	assert_int_equal(t->dr[0], 0x1234);
	assert_int_equal(t->lstar, f->s->lstar);
	assert_int_equal(t->kernel_gs_base, f->s->kernel_gs_base);
	assert_int_equal(t->seg[X86_FS].base, 0x12340);
	assert_int_equal(t->gdtr.base, 0x5000);
	assert_int_equal(t->gdtr.limit, 0x27);
	assert_int_equal(t->activity, X86_ACTIVE);
	free(t);
}

static void dirty_log(void **state)
{
	/* mov byte [0x8001],1; mov al,0xee; out 0x10,al; jmp $ */
	static const uint8_t code[] = { 0xc6, 0x06, 0x01, 0x80, 0x01, 0xb0, 0xee, 0xe6, 0x10, 0xeb, 0xfe };
	uint64_t map[RAM / 4096 / 64] = { 0 };
	struct fix *f = have(state);

	assert_int_equal(machine_dirty_start(f->m), 0);
	assert_int_equal(run(f, code, sizeof(code)), VCPU_STOP_KICK);
	assert_int_equal(machine_dirty_fetch(f->m, 0, RAM / 4096, map), 0);
	assert_int_equal(map[0], BIT64(8) | BIT64(CODE / 4096));	/* what the guest wrote, and its code, put there meanwhile */
	memset(map, 0, sizeof(map));
	assert_int_equal(machine_dirty_fetch(f->m, 0, RAM / 4096, map), 0);
	assert_int_equal(map[0], 0);
	machine_dirty_stop(f->m);
}

static void doorbell(void **state)
{
	/* mov al,0x77; out 0x11,al; mov al,0xee; out 0x10,al; jmp $ */
	static const uint8_t code[] = { 0xb0, 0x77, 0xe6, 0x11, 0xb0, 0xee, 0xe6, 0x10, 0xeb, 0xfe };
	struct fix *f = have(state);
	struct bus_doorbell d = { .addr = 0x11, .len = 1, .fd = eventfd(0, EFD_NONBLOCK) };
	uint64_t n = 0;

	assert_true(d.fd >= 0);
	assert_int_equal(bus_doorbell_add(f->m->pio, &d), 0);
	assert_int_equal(run(f, code, sizeof(code)), VCPU_STOP_KICK);
	assert_int_equal(read(d.fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 1);
	bus_doorbell_del(&d);
	close(d.fd);
}

/* Events of the interrupt interface that need no guest: they must be taken. */
static void messages(void **state)
{
	const struct msi msg = { .addr = 0xfee00000, .data = 0x40 };
	struct fix *f = have(state);
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(cpu_engine_kvm.msi(f->e, &msg), 0);
	assert_int_equal(cpu_engine_kvm.msi_fd(f->e, fd, &msg, true), 0);
	assert_int_equal(cpu_engine_kvm.msi_fd(f->e, fd, &msg, false), 0);
	assert_int_equal(cpu_engine_kvm.msi_fd(f->e, fd, &msg, false), -ENOENT);
	if (cpu_engine_kvm.has_irqchip(f->e)) {
		assert_int_equal(cpu_engine_kvm.irq_line(f->e, 4, true), 0);
		assert_int_equal(cpu_engine_kvm.irq_line(f->e, 4, false), 0);
		assert_int_equal(cpu_engine_kvm.extint(f->e, true), -ENOTSUP);
	} else {
		assert_int_equal(cpu_engine_kvm.irq_line(f->e, 4, true), -ENOTSUP);
		assert_int_equal(cpu_engine_kvm.ioapic_route(f->e, 4, &msg, false), 0);
		assert_int_equal(cpu_engine_kvm.extint(f->e, true), 0);
	}
	close(fd);
}

static void *stopper(void *vcpu)
{
	usleep(50000);
	vcpu_raise(vcpu, VCPU_EV_STOP);
	return NULL;
}

/* A second vCPU that is not there hears nothing; and what it was told before it went is forgotten when it comes again. */
static void comes_again(void **state)
{
	/* mov al,0xab; out 0x11,al; jmp $ */
	static const uint8_t code[] = { 0xb0, 0xab, 0xe6, 0x11, 0xeb, 0xfe };
	const struct msi init = { .addr = 0xfee01000, .data = 0x500 }, nmi = { .addr = 0xfee01000, .data = 0x400 };
	struct fix *f = have(state);
	struct x86_state *t = aligned_alloc(64, align_up(sizeof(*t), 64));
	struct vcpu *v;
	pthread_t k;
	struct err e;

	assert_non_null(t);
	assert_int_equal(cpu_engine_kvm.vcpu_create(f->e, 1, &e), 0);
	v = f->m->vcpus[1];
	v->thread = pthread_self();
	v->has_thread = true;
	assert_int_equal(cpu_engine_kvm.vcpu_thread_init(v), 0);
	assert_int_equal(mem_write(f->m->mem, CODE, code, sizeof(code)), 0);
	for (int round = 0; round < 2; round++) {
		/* Absent in round 0, there in round 1. */
		x86_state_reset(t, 1, 0);
		t->apic_base = round ? 0xfee00800 : 0xfee00000;
		t->activity = X86_WAIT_SIPI;
		cpu_engine_kvm.vcpu_power_on(v);
		assert_int_equal(cpu_engine_kvm.state_set(v, t), 0);
		cpu_engine_kvm.msi(f->e, &init);
		cpu_engine_kvm.msi(f->e, &nmi);
		/* Plugged in, and where a SIPI would have sent it: it goes on there. */
		cpu_engine_kvm.vcpu_power_on(v);
		f->s->apic_base = 0xfee00800;
		f->s->activity = X86_ACTIVE;
		f->port_val = 0;
		assert_int_equal(cpu_engine_kvm.state_set(v, f->s), 0);
		assert_int_equal(pthread_create(&k, NULL, stopper, v), 0);
		assert_int_equal(cpu_engine_kvm.vcpu_run(v), VCPU_STOP_KICK);
		pthread_join(k, NULL);
		assert_int_equal(f->port_val, 0xab);
		assert_int_equal(cpu_engine_kvm.state_get(v, t), 0);
		assert_int_equal(t->apic_base, 0xfee00800);
		assert_int_equal(t->activity, X86_ACTIVE);
		assert_int_equal(t->rip, CODE + 4);
	}
	free(t);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define S(fn) { #fn " (split)", fn, setup_split, teardown, NULL }
	const struct CMUnitTest tests[] = {
		T(ports_and_state), T(mmio), T(stops_in_a_loop), T(state_goes_round), T(dirty_log), T(doorbell),
		T(messages), T(comes_again), S(comes_again), S(ports_and_state), S(stops_in_a_loop), S(messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
