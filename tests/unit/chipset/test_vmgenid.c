/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM generation ID: how the guest sees its bytes, that a change is told once, and what a restored guest is told. */
#include "chip.h"

#include "chipset/vmgenid.h"

#define GPA 0xfeda0000ull

static const uint8_t one[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
static const uint8_t two[16] = { 1, 2, 3 };

static void vmgenid(void **state)
{
	/* As a GUID lies in memory: three little-endian fields, then bytes. */
	static const uint8_t seen[16] = { 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	struct machine *m = machine_make();
	struct probe p = { 0 };
	struct irq notify = probe_irq(&p, 0);
	struct snap_out *o;
	struct snap_in *in;
	struct vmgenid *v;
	struct err e = { "" };
	uint8_t b[16];
	const void *data;
	size_t len;

	machine_lock(m);
	assert_int_equal(vmgenid_new(m, GPA, &notify, &v, &e), 0);
	vmgenid_set(v, one);
	assert_int_equal(p.rises, 1);
	assert_int_equal(mem_read(m->mem, GPA, b, 16), 0);
	assert_memory_equal(b, seen, 16);
	vmgenid_get(v, b);
	assert_memory_equal(b, one, 16);
	assert_int_equal(mem_write(m->mem, GPA, two, 16), -EFAULT);	/* not the guest's to write */
	vmgenid_set(v, one);
	assert_int_equal(p.rises, 1);
	machine_reset_devs(m);						/* a reset makes no copy */
	assert_int_equal(p.rises, 1);
	/* Its own state again: nothing has changed.  Another VM's: the ID stays, and the guest is told. */
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(m, o, NULL), 0);
	data = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	assert_int_equal(machine_load_devs(m, in, &e), 0);
	snap_in_free(in);
	assert_int_equal(p.rises, 1);
	vmgenid_set(v, two);
	assert_int_equal(p.rises, 2);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	assert_int_equal(machine_load_devs(m, in, &e), 0);
	snap_in_free(in);
	assert_int_equal(p.rises, 3);
	vmgenid_get(v, b);
	assert_memory_equal(b, two, 16);
	assert_int_equal(mem_read(m->mem, GPA, b, 4), 0);
	assert_memory_equal(b, "\0\3\2\1", 4);
	snap_out_free(o);
	machine_unlock(m);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(vmgenid) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
