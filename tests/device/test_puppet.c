/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the puppet: accesses reach memory, local APIC and devices as a
 * CPU's would; interrupts are taken once; the socket protocol survives anything
 * and answers every line.
 */
#include "../unit/unit.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "chipset/i8254.h"
#include "chipset/lapic.h"
#include "puppet_client.h"

static int setup(void **state)
{
	*state = puppet_new(1 << 20);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	puppet_free(*state);
	return 0;
}

static void a_device_sees_its_guest(void **state)
{
	struct puppet *p = *state;
	struct i8254_config cfg = { .base = 0x40, .irq = puppet_wire(p, 0) };
	struct i8254 *pit;

	assert_int_equal(i8254_new(p->m, &cfg, &pit), 0);
	puppet_reset(p);
	puppet_outb(p, 0x43, 0x34);		/* counter 0, mode 2 */
	puppet_outb(p, 0x40, 0xa9);		/* 1193: 1 ms less a bit */
	puppet_outb(p, 0x40, 0x04);
	puppet_wire_rises(p, 0);
	puppet_clock_step(p, 10500000);
	assert_in_range(puppet_wire_rises(p, 0), 10, 11);
	puppet_save_load(p);
	puppet_wire_rises(p, 0);
	puppet_clock_step(p, 10000000);
	assert_in_range(puppet_wire_rises(p, 0), 9, 11);
}

static void interrupts_are_taken_once(void **state)
{
	struct puppet *p = *state;
	struct lapics_config cfg = { .n = 1, .virtual_wire = true };
	struct lapics *l;
	struct msi msg = { .addr = 0xfee00000, .data = 0x41 }, out;

	machine_msi(p->m, &msg);
	assert_true(puppet_msi_taken(p, &out));
	assert_int_equal(out.data, 0x41);
	assert_false(puppet_msi_taken(p, &out));

	assert_int_equal(lapics_new(p->m, &cfg, &l), 0);
	lapics_attach(l, p->m->vcpus[0]);
	p->m->msi = lapics_msi;
	p->m->msi_opaque = l;
	puppet_reset(p);
	puppet_mmio_write32(p, LAPIC_DEFAULT_BASE + 0xf0, 0x1ff);
	assert_int_equal(puppet_mmio_read32(p, LAPIC_DEFAULT_BASE + 0xf0) & 0x1ff, 0x1ff);
	assert_int_equal(puppet_irq_taken(p), -1);
	machine_lock(p->m);
	machine_msi(p->m, &msg);
	machine_unlock(p->m);
	assert_int_equal(puppet_irq_taken(p), 0x41);
	assert_int_equal(puppet_irq_taken(p), -1);
	puppet_mmio_write32(p, LAPIC_DEFAULT_BASE + 0xb0, 0);
}

static const char *ask(struct puppet *p, const char *line)
{
	static char reply[16384];

	puppet_command(p->e, line, reply, sizeof(reply));
	return reply;
}

static void the_protocol_answers_everything(void **state)
{
	struct puppet *p = *state;

	puppet_set_irqchip(p->e, true);
	assert_string_equal(ask(p, "writel 0x1000 0x12345678"), "OK");
	assert_string_equal(ask(p, "readw 0x1002"), "OK 0x1234");
	assert_string_equal(ask(p, "memread 4096 4"), "OK 78563412");
	assert_string_equal(ask(p, "memwrite 0x1001 ffee"), "OK");
	assert_string_equal(ask(p, "readq 0x1000"), "OK 0x12eeff78");
	assert_string_equal(ask(p, "inb 0x71"), "OK 0xff none");
	assert_string_equal(ask(p, "outl 0x71 1"), "OK none");
	assert_string_equal(ask(p, "readb 0xfffffffff"), "OK 0xff none");
	assert_string_equal(ask(p, "irq"), "OK none");
	assert_string_equal(ask(p, "wire 5"), "OK 0");
	assert_int_equal(p->e->ops->irq_line(p->e, 5, true), 0);
	assert_string_equal(ask(p, "wire 5"), "OK 1");
	assert_string_equal(ask(p, "wire 18446744073709551615"), "OK 0");
	assert_int_equal(p->e->ops->msi(p->e, &(struct msi){ 0xfee00000, 7 }), 0);
	assert_string_equal(ask(p, "msi"), "OK 0xfee00000 0x7");
	assert_string_equal(ask(p, "msi"), "OK none");
	assert_string_equal(ask(p, "clock_step 50"), "OK 50");
	assert_string_equal(ask(p, "clock"), "OK 50");
	assert_string_equal(ask(p, "reset"), "OK");
	assert_string_equal(ask(p, "rdmsr 0x800"), "ERR #GP");
	assert_string_equal(ask(p, ""), "ERR empty line");
	assert_string_equal(ask(p, "inb"), "ERR inb takes 1 arguments");
	assert_string_equal(ask(p, "inb 1 2"), "ERR inb takes 1 arguments");
	assert_string_equal(ask(p, "inb x"), "ERR not a number: x");
	assert_string_equal(ask(p, "inb -1"), "ERR not a number: -1");
	assert_string_equal(ask(p, "dance"), "ERR unknown command: dance");
	assert_string_equal(ask(p, "memread 0 5000"), "ERR 1 to 4096 bytes at a time");
	assert_string_equal(ask(p, "memread 0xfffff 2"), "ERR not memory");
	assert_string_equal(ask(p, "memwrite 0 abc"), "ERR 1 to 4096 bytes as pairs of hex digits");
	assert_string_equal(ask(p, "memwrite 0 zz"), "ERR not a hex digit");
}

static void *vcpu_thread(void *o)
{
	struct puppet *p = o;

	return (void *)(uintptr_t)p->e->ops->vcpu_run(p->m->vcpus[0]);
}

static void vcpu0_serves_a_socket(void **state)
{
	struct puppet *p = *state;
	pthread_t th;
	char buf[64];
	void *ret;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	puppet_listen_fd(p->e, s[1]);
	assert_int_equal(pthread_create(&th, NULL, vcpu_thread, p), 0);
	assert_int_equal(write(s[0], "writeb 16 7\nread", 16), 16);
	assert_int_equal(read(s[0], buf, sizeof(buf)), 3);
	assert_int_equal(write(s[0], "b 16\n", 5), 5);
	assert_int_equal(read(s[0], buf, sizeof(buf)), 7);
	assert_memory_equal(buf, "OK 0x7\n", 7);
	assert_int_equal(write(s[0], "quit\n", 5), 5);
	assert_int_equal(read(s[0], buf, sizeof(buf)), 3);
	assert_int_equal(read(s[0], buf, sizeof(buf)), 0);	/* closed */
	vcpu_raise(p->m->vcpus[0], VCPU_EV_STOP);
	pthread_join(th, &ret);
	assert_int_equal((uintptr_t)ret, VCPU_STOP_KICK);
	assert_int_equal(p->m->vcpus[0]->events, 0);
	close(s[0]);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_device_sees_its_guest),
		T(interrupts_are_taken_once),
		T(the_protocol_answers_everything),
		T(vcpu0_serves_a_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
