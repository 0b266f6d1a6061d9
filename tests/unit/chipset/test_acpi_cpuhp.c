/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU hot-plug registers: as firmware counts CPUs by them, as ACPI's methods scan, eject
 * and report by them, what a hostile guest and a damaged snapshot cannot do.
 */
#include "chip.h"

#include <errno.h>

#include "chipset/acpi_cpuhp.h"

#define PORT 0xcd8
#define N 5

static struct machine *m;
static struct acpi_cpuhp *h;
static struct probe event;
static unsigned ejects, ejected, loads, osts, ost_of;

static void on_ejected(void *opaque, unsigned id)
{
	ejects++;
	ejected = id;
}

static void on_loaded(void *opaque) { loads++; }

static void on_event(void *opaque, enum machine_event ev, int64_t value)
{
	assert_int_equal(ev, MACHINE_EV_CPU_OST);
	osts++;
	ost_of = (unsigned)value;
}

static struct acpi_cpuhp_config config(void)
{
	return (struct acpi_cpuhp_config){ .port = PORT, .n = N, .present = 0x3, .event = probe_irq(&event, 0), .ejected = on_ejected, .loaded = on_loaded };
}

static int setup(void **state)
{
	struct acpi_cpuhp_config c;

	event = (struct probe){ 0 };
	ejects = ejected = loads = osts = ost_of = 0;
	c = config();
	m = machine_make();
	m->event = on_event;
	assert_int_equal(acpi_cpuhp_new(m, &c, &h), 0);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static void sel(uint32_t id) { outl_(m, PORT, id); }
static void cmd(uint8_t c) { outb_(m, PORT + 5, c); }
static uint8_t flags(uint32_t id)
{
	sel(id);
	return inb_(m, PORT + 4);
}

/* QEMU's documented way of counting; returns the CPUs there may be. */
static unsigned count(unsigned *present)
{
	unsigned i = 0;

	*present = 0;
	sel(0);
	cmd(0);
	do {
		*present += inb_(m, PORT + 4) & 1;
		sel(++i);
	} while (inl_(m, PORT + 8));
	sel(0);
	return i;
}

static void test_counting(void **state)
{
	unsigned present;

	/* "The modern interface is enabled". */
	sel(0);
	cmd(0);
	assert_int_equal(inl_(m, PORT), 0);
	assert_int_equal(count(&present), N);
	assert_int_equal(present, 2);
	assert_int_equal(acpi_cpuhp_insert(h, 4), 0);
	outb_(m, PORT + 4, 0);
	sel(4);
	outb_(m, PORT + 4, 2);
	assert_int_equal(count(&present), N);
	assert_int_equal(present, 3);
	sel(3);
	cmd(3);
	assert_int_equal(inl_(m, PORT + 8), 3);		/* APIC ID, and its upper half */
	assert_int_equal(inl_(m, PORT), 0);
}

/* What the method of the event does, until there is no news. Returns the CPUs it told of, a digit for each. */
static unsigned scan(uint8_t bit)
{
	unsigned told = 0;

	sel(0);
	for (int i = 0; i < 2 * N; i++) {
		uint8_t f;

		cmd(0);
		f = inb_(m, PORT + 4);
		if (!(f & 6))
			return told;
		assert_int_equal(f & 6, bit);
		told = told * 10 + inl_(m, PORT + 8);
		outb_(m, PORT + 4, bit);
	}
	fail_msg("it does not end");
	return 0;
}

static void test_plug(void **state)
{
	assert_int_equal(acpi_cpuhp_insert(h, N), -EINVAL);
	assert_int_equal(acpi_cpuhp_insert(h, 0), -EEXIST);
	assert_int_equal(acpi_cpuhp_insert(h, 1), -EEXIST);
	assert_int_equal(event.rises, 0);
	assert_int_equal(acpi_cpuhp_insert(h, 3), 0);
	assert_int_equal(acpi_cpuhp_insert(h, 2), 0);
	assert_int_equal(acpi_cpuhp_insert(h, 2), -EEXIST);
	assert_int_equal(event.rises, 2);
	assert_int_equal(acpi_cpuhp_present(h), 0xf);
	assert_int_equal(flags(3), 3);
	round_trip(m);					/* in mid-request */
	assert_int_equal(loads, 1);
	assert_int_equal(flags(3), 3);
	assert_int_equal(scan(2), 23);
	assert_int_equal(flags(3), 1);
	assert_int_equal(scan(2), 0);
	/* From the selected one on, and round. */
	assert_int_equal(acpi_cpuhp_insert(h, 4), 0);
	sel(2);
	cmd(0);
	assert_int_equal(inl_(m, PORT + 8), 4);
}

static void test_unplug(void **state)
{
	assert_int_equal(acpi_cpuhp_insert(h, 3), 0);
	scan(2);
	assert_int_equal(acpi_cpuhp_ask(h, 0), -EINVAL);
	assert_int_equal(acpi_cpuhp_ask(h, 2), -EINVAL);
	assert_int_equal(acpi_cpuhp_ask(h, N), -EINVAL);
	assert_int_equal(acpi_cpuhp_ask(h, 3), 0);
	assert_int_equal(acpi_cpuhp_ask(h, 1), 0);
	assert_int_equal(event.rises, 3);
	round_trip(m);
	assert_int_equal(acpi_cpuhp_asked(h), 0xa);
	assert_int_equal(flags(1), 5);
	assert_int_equal(scan(4), 13);
	assert_int_equal(acpi_cpuhp_asked(h), 0xa);		/* told is not gone */
	round_trip(m);
	assert_int_equal(acpi_cpuhp_asked(h), 0xa);
	sel(3);
	outb_(m, PORT + 4, 8);
	assert_int_equal(ejects, 1);
	assert_int_equal(ejected, 3);
	assert_int_equal(inb_(m, PORT + 4), 0);
	assert_int_equal(acpi_cpuhp_asked(h), 0x2);
	assert_int_equal(acpi_cpuhp_present(h), 0x3);
	/* A second time, what is not there, what cannot be, and the boot processor. */
	outb_(m, PORT + 4, 8);
	sel(2);
	outb_(m, PORT + 4, 8);
	sel(0);
	outb_(m, PORT + 4, 0x18);
	sel(77);
	outb_(m, PORT + 4, 8);
	assert_int_equal(ejects, 1);
	assert_int_equal(acpi_cpuhp_present(h), 0x3);
	/* Unasked, by way of firmware. */
	sel(1);
	outb_(m, PORT + 4, 0x10);
	assert_int_equal(inb_(m, PORT + 4), 0x11);
	sel(0);
	cmd(0);
	assert_int_equal(inl_(m, PORT + 8), 1);
	outb_(m, PORT + 4, 8);
	assert_int_equal(ejects, 2);
	assert_int_equal(acpi_cpuhp_present(h), 0x1);
	assert_int_equal(acpi_cpuhp_asked(h), 0);
	/* And it comes again. */
	assert_int_equal(acpi_cpuhp_insert(h, 1), 0);
	assert_int_equal(flags(1), 3);
	assert_int_equal(acpi_cpuhp_remove(h, 0), -EINVAL);
	assert_int_equal(acpi_cpuhp_remove(h, 1), 0);
	assert_int_equal(acpi_cpuhp_remove(h, 1), -EINVAL);
	assert_int_equal(ejects, 3);
	assert_int_equal(flags(1), 0);
}

static void say(uint32_t id, uint32_t source, uint32_t status)
{
	sel(id);
	cmd(1);
	outl_(m, PORT + 8, source);
	cmd(2);
	outl_(m, PORT + 8, status);
}

static void test_ost(void **state)
{
	struct acpi_cpuhp_ost o;

	say(1, 1, 0);
	assert_int_equal(osts, 1);
	assert_int_equal(ost_of, 1);
	assert_int_equal(acpi_cpuhp_ask(h, 1), 0);
	say(1, 3, 0x84);				/* it takes a while */
	assert_int_equal(acpi_cpuhp_asked(h), 0x2);
	round_trip(m);
	o = acpi_cpuhp_ost(h, 1);
	assert_int_equal(o.event, 3);
	assert_int_equal(o.status, 0x84);
	say(1, 3, 0x81);				/* it will not */
	assert_int_equal(acpi_cpuhp_asked(h), 0);
	assert_int_equal(acpi_cpuhp_present(h), 0x3);
	assert_int_equal(osts, 3);
	assert_int_equal(acpi_cpuhp_ask(h, 1), 0);
	say(1, 3, 0);
	assert_int_equal(acpi_cpuhp_asked(h), 0x2);
	o = acpi_cpuhp_ost(h, 99);
	assert_int_equal(o.event, 0);
}

/* Selectors and commands that are none, accesses of other widths. */
static void test_nonsense(void **state)
{
	const uint32_t bad[] = { N, 64, 0x80000000, 0xffffffff };

	for (unsigned i = 0; i < 4; i++) {
		sel(bad[i]);
		for (unsigned c = 0; c < 256; c++) {
			cmd((uint8_t)c);
			outl_(m, PORT + 8, c);
			outb_(m, PORT + 4, (uint8_t)c);
			assert_int_equal(inl_(m, PORT + 8), 0);
			assert_int_equal(inl_(m, PORT), 0);
			assert_int_equal(inb_(m, PORT + 4), 0);
		}
	}
	assert_int_equal(osts + ejects + event.rises, 0);
	sel(1);
	outw_(m, PORT + 4, 8);				/* not a byte: nothing */
	outl_(m, PORT + 4, 8);
	outw_(m, PORT, 4);
	assert_int_equal(inb_(m, PORT + 4), 1);
	assert_int_equal(inb_(m, PORT + 5), 0);
	assert_int_equal(inw_(m, PORT + 6), 0);
	cmd(9);
	outl_(m, PORT + 8, 1);
	assert_int_equal(inl_(m, PORT + 8), 0);
	assert_int_equal(osts + ejects, 0);
	assert_int_equal(acpi_cpuhp_present(h), 0x3);
}

/* A reset ends what was under way, and leaves CPUs and the selector. */
static void test_reset(void **state)
{
	assert_int_equal(acpi_cpuhp_insert(h, 2), 0);
	assert_int_equal(acpi_cpuhp_ask(h, 1), 0);
	sel(2);
	machine_lock(m);
	machine_reset_devs(m);
	machine_unlock(m);
	assert_int_equal(inb_(m, PORT + 4), 1);
	assert_int_equal(flags(1), 1);
	assert_int_equal(acpi_cpuhp_present(h), 0x7);
	assert_int_equal(acpi_cpuhp_asked(h), 0);
	assert_int_equal(ejects, 0);
}

/* The state of a machine with other CPUs is foreign data. */
static int load_from(uint64_t present, unsigned n)
{
	struct acpi_cpuhp_config c = config();
	struct machine *other = machine_make();
	struct acpi_cpuhp *o;
	struct snap_out *out;
	struct snap_in *in;
	struct err e = { "" };
	const void *data;
	size_t len;
	int ret;

	c.n = n;
	c.present = present;
	assert_int_equal(acpi_cpuhp_new(other, &c, &o), 0);
	for (unsigned i = 1; i < n; i++)
		acpi_cpuhp_ask(o, i);
	assert_int_equal(snap_out_new(&out), 0);
	assert_int_equal(machine_save_devs(other, out, NULL), 0);
	data = snap_out_data(out, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	ret = machine_load_devs(m, in, &e);
	snap_in_free(in);
	snap_out_free(out);
	machine_free(other);
	return ret;
}

static void test_foreign_state(void **state)
{
	struct acpi_cpuhp_config c = config();
	struct acpi_cpuhp *o;

	assert_int_equal(load_from(0x1d, N), 0);
	assert_int_equal(loads, 1);
	assert_int_equal(acpi_cpuhp_present(h), 0x1d);
	assert_int_equal(acpi_cpuhp_asked(h), 0x1c);
	assert_int_equal(load_from(~0ull, 64), -EINVAL);
	assert_int_equal(loads, 1);
	assert_int_equal(acpi_cpuhp_present(h), 0x1d);
	assert_int_equal(acpi_cpuhp_asked(h), 0);
	assert_int_equal(flags(3), 1);
	c.present = 2;
	assert_int_equal(acpi_cpuhp_new(m, &c, &o), -EINVAL);
	c.present = 1;
	c.n = 65;
	assert_int_equal(acpi_cpuhp_new(m, &c, &o), -EINVAL);
	c.n = N;
	assert_int_equal(acpi_cpuhp_new(m, &c, &o), -EEXIST);	/* the ports are taken */
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_counting), T(test_plug), T(test_unplug), T(test_ost), T(test_nonsense), T(test_reset), T(test_foreign_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
