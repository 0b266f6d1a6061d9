/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both interfaces of a TPM as drivers use them, on a TPM of the test's: localities,
 * the FIFO's states and the buffer's, cancelling, saved state in the midst of a
 * command; and a TPM that hangs, lies or is gone, which fails and holds up nothing.
 */
#include "../chipset/chip.h"

#include "chipset/tpm_crb.h"
#include "chipset/tpm_tis.h"
#include "fake_tpm.h"

#define BASE 0xfed40000ull

struct fix {
	struct machine *m;
	struct fake_tpm fake;
	struct tpm *tpm;
	struct probe irq;
};

static struct fix *fix_new(bool crb)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct err e = { "" };
	int fd = fake_start(&f->fake);

	f->m = machine_make();
	if (tpm_new(f->m->loop, fd, "fake", &f->tpm, &e))
		fail_msg("%s", e.msg);
	machine_lock(f->m);
	if (crb) {
		assert_int_equal(tpm_crb_new(f->m, BASE, f->tpm), 0);
	} else {
		const struct tpm_tis_config c = { .base = BASE, .irq = probe_irq(&f->irq, 0), .vector = 5, .tpm = f->tpm };

		assert_int_equal(tpm_tis_new(f->m, &c), 0);
	}
	machine_unlock(f->m);
	return f;
}

static void fix_free(struct fix *f)
{
	machine_lock(f->m);
	machine_free_devs(f->m);
	machine_unlock(f->m);
	tpm_free(f->tpm);
	fake_end(&f->fake);
	machine_free(f->m);
	free(f);
}

static int setup_tis(void **state) { return *state = fix_new(false), 0; }
static int setup_crb(void **state) { return *state = fix_new(true), 0; }
static int teardown(void **state) { return fix_free(*state), 0; }

static uint64_t rd(struct fix *f, unsigned off, unsigned len)
{
	uint64_t v = 0;

	bus_access(f->m->mmio, BASE + off, &v, len, false);
	return v;
}

static void wr(struct fix *f, unsigned off, unsigned len, uint64_t v)
{
	bus_access(f->m->mmio, BASE + off, &v, len, true);
}

/* Until the register's bits are as wanted; 5 s at most. */
static void await(struct fix *f, unsigned off, unsigned len, uint32_t mask, uint32_t want)
{
	for (int i = 0; i < 5000 && (rd(f, off, len) & mask) != want; i++)
		loop_turn(f->m->loop, 1);
	assert_int_equal(rd(f, off, len) & mask, want);
}

static void await_fake(struct fix *f, _Atomic unsigned *n, unsigned want)
{
	for (int i = 0; i < 5000 && *n < want; i++)
		loop_turn(f->m->loop, 1);
	assert_int_equal(*n, want);
}

/* ---- FIFO ---- */

enum { ACCESS = 0, INT_ENABLE = 8, INT_STATUS = 0x10, STS = 0x18, FIFO = 0x24 };
#define LOC(n) ((n) << 12)

static const uint8_t command[12] = { 0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0 };

static void tis_send(struct fix *f, unsigned loc)
{
	wr(f, LOC(loc) + STS, 1, 0x40);
	assert_int_equal(rd(f, LOC(loc) + STS, 1) & 0xc0, 0xc0);
	for (unsigned i = 0; i < sizeof(command); i++) {
		wr(f, LOC(loc) + FIFO, 1, command[i]);
		assert_int_equal(rd(f, LOC(loc) + STS, 1) & 0x88, i + 1 < sizeof(command) ? 0x88 : 0x80);
	}
	wr(f, LOC(loc) + STS, 1, 0x20);
}

static uint32_t code(struct fix *f)
{
	uint8_t b[10];

	for (unsigned i = 0; i < 10; i++)
		b[i] = (uint8_t)rd(f, FIFO, 1);
	return fake_get32(b + 6);
}

static void tis_identity(void **state)
{
	struct fix *f = *state;

	assert_int_equal(rd(f, ACCESS, 1), 0x81);
	assert_int_equal(rd(f, 0xf00, 4), 0x00011014);
	assert_int_equal(rd(f, 0x30, 4) & 0xf, 0);
	assert_int_equal(rd(f, 0x14, 4) >> 28, 3);
	assert_int_equal(rd(f, 0x0c, 1), 5);
	assert_int_equal(rd(f, STS, 4), 0xffffffff);	/* nobody is active */
	wr(f, ACCESS, 1, 2);
	assert_int_equal(rd(f, ACCESS, 1), 0xa1);
	assert_int_equal(rd(f, STS, 4) >> 24, 4);	/* TPM 2.0 */
	assert_int_equal(rd(f, LOC(1) + STS, 4), 0xffffffff);
}

static void tis_command(void **state)
{
	struct fix *f = *state;

	wr(f, ACCESS, 1, 2);
	wr(f, FIFO, 1, 0x80);				/* not ready yet: lost */
	wr(f, STS, 1, 0x20);				/* nothing to go */
	tis_send(f, 0);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(f->fake.commands, 1);
	assert_int_equal(rd(f, STS, 4) >> 8 & 0xffff, 20);
	assert_int_equal(rd(f, FIFO, 4), 0x00000180);	/* in words, too */
	assert_int_equal(rd(f, STS, 4) >> 8 & 0xffff, 16);
	wr(f, STS, 1, 2);				/* again, from the beginning */
	assert_int_equal(code(f), 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(rd(f, STS, 1) & 0x10, 0x10);
		rd(f, FIFO, 1);
	}
	assert_int_equal(rd(f, STS, 1) & 0x90, 0x80);
	assert_int_equal(rd(f, FIFO, 1), 0xff);
	wr(f, STS, 1, 0x40);
	assert_int_equal(rd(f, STS, 1) & 0xc0, 0xc0);
}

static void tis_localities(void **state)
{
	struct fix *f = *state;

	wr(f, ACCESS, 1, 2);
	wr(f, LOC(2) + ACCESS, 1, 2);			/* waits */
	wr(f, LOC(1) + ACCESS, 1, 2);
	assert_int_equal(rd(f, LOC(2) + ACCESS, 1), 0x87);
	assert_int_equal(rd(f, ACCESS, 1), 0xa5);	/* active, somebody waits */
	wr(f, ACCESS, 1, 0x20);				/* the highest that waits gets it */
	assert_int_equal(rd(f, LOC(2) + ACCESS, 1) & 0x20, 0x20);
	tis_send(f, 2);
	wr(f, LOC(1) + ACCESS, 1, 8);			/* lower ones cannot seize */
	assert_int_equal(rd(f, LOC(2) + ACCESS, 1) & 0x30, 0x20);
	wr(f, LOC(4) + ACCESS, 1, 8);
	assert_int_equal(rd(f, LOC(2) + ACCESS, 1) & 0x30, 0x10);
	assert_int_equal(rd(f, LOC(4) + ACCESS, 1) & 0x20, 0x20);
	wr(f, LOC(2) + ACCESS, 1, 0x10);
	assert_int_equal(rd(f, LOC(2) + ACCESS, 1) & 0x10, 0);
	tis_send(f, 4);
	await(f, LOC(4) + STS, 1, 0x90, 0x90);
	assert_int_equal(f->fake.locality, 4);
}

static void tis_interrupts(void **state)
{
	struct fix *f = *state;

	wr(f, INT_ENABLE, 4, 0x80000087);
	assert_int_equal(rd(f, INT_ENABLE, 4), 8);	/* not without being active */
	wr(f, ACCESS, 1, 2);
	wr(f, INT_ENABLE, 4, 0x80000087);
	wr(f, STS, 1, 0x40);
	assert_int_equal(rd(f, INT_STATUS, 1), 0x80);
	assert_true(f->irq.level);
	wr(f, INT_STATUS, 4, 0x80);
	assert_false(f->irq.level);
	tis_send(f, 0);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(rd(f, INT_STATUS, 1), 3);
	assert_true(f->irq.level);
	wr(f, INT_ENABLE, 4, 0x00000087);
	assert_false(f->irq.level);
}

static void tis_bad_sizes(void **state)
{
	struct fix *f = *state;

	/* Larger than any buffer: what fits is taken, and the TPM is not asked. */
	wr(f, ACCESS, 1, 2);
	wr(f, STS, 1, 0x40);
	for (unsigned i = 0; i < 4200; i++)
		wr(f, FIFO, 1, i < 10 ? 0x7f : 0);
	assert_int_equal(rd(f, STS, 1) & 0x88, 0x80);
	wr(f, STS, 1, 0x20);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(code(f), 0x142);
	/* Shorter than a header. */
	wr(f, STS, 1, 0x40);
	for (unsigned i = 0; i < 6; i++)
		wr(f, FIFO, 1, i == 5);
	wr(f, STS, 1, 0x20);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(code(f), 0x142);
	assert_int_equal(f->fake.commands, 0);
}

static void tis_cancel_and_abort(void **state)
{
	struct fix *f = *state;

	f->fake.mood = FAKE_HUNG;
	wr(f, ACCESS, 1, 2);
	tis_send(f, 0);
	await_fake(f, &f->fake.commands, 1);
	assert_int_equal(rd(f, STS, 1) & 0x90, 0);
	wr(f, STS, 4, 1 << 24);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(code(f), 0x909);		/* TPM_RC_CANCELED */
	/* Aborted: the response of the old is not taken for the new one's. */
	tis_send(f, 0);
	await_fake(f, &f->fake.commands, 2);
	wr(f, STS, 1, 0x40);
	assert_int_equal(rd(f, STS, 1) & 0xc0, 0xc0);
	f->fake.mood = FAKE_HUNG;
	await_fake(f, &f->fake.cancels, 2);
	f->fake.mood = FAKE_GOOD;
	tis_send(f, 0);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(code(f), 0);
	assert_int_equal(f->fake.commands, 3);
}

/* Cancelled while an older command was still under way: it is not begun. */
static void tis_cancel_of_one_that_waits(void **state)
{
	struct fix *f = *state;

	f->fake.mood = FAKE_HUNG;
	wr(f, ACCESS, 1, 2);
	tis_send(f, 0);
	await_fake(f, &f->fake.commands, 1);
	machine_lock(f->m);
	tpm_submit(f->tpm, 0, command, sizeof(command));
	tpm_cancel(f->tpm);
	machine_unlock(f->m);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(code(f), 0x909);
	f->fake.mood = FAKE_GOOD;
	tis_send(f, 0);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(code(f), 0);
}

static void tis_reset(void **state)
{
	struct fix *f = *state;
	unsigned inits;

	await_fake(f, &f->fake.inits, 2);		/* at the start, and the device's */
	f->fake.mood = FAKE_HUNG;
	wr(f, ACCESS, 1, 2);
	tis_send(f, 0);
	await_fake(f, &f->fake.commands, 1);
	inits = f->fake.inits;
	machine_lock(f->m);
	machine_reset_devs(f->m);
	machine_unlock(f->m);
	assert_int_equal(rd(f, ACCESS, 1), 0x81);
	await_fake(f, &f->fake.inits, inits + 1);	/* after what was under way was cancelled */
	f->fake.mood = FAKE_GOOD;
	wr(f, ACCESS, 1, 2);
	tis_send(f, 0);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(code(f), 0);
}

static void tis_saved(void **state)
{
	struct fix *f = *state;

	/* Half a command. */
	wr(f, LOC(1) + ACCESS, 1, 2);
	wr(f, LOC(1) + STS, 1, 0x40);
	for (unsigned i = 0; i < 5; i++)
		wr(f, LOC(1) + FIFO, 1, command[i]);
	memset(f->fake.blob[1], 'x', 15);
	round_trip(f->m);
	assert_int_equal(f->fake.blob[1][0], 'x');
	for (unsigned i = 5; i < sizeof(command); i++)
		wr(f, LOC(1) + FIFO, 1, command[i]);
	wr(f, LOC(1) + STS, 1, 0x20);
	/* One that is under way is waited for. */
	round_trip(f->m);
	assert_int_equal(rd(f, LOC(1) + STS, 1) & 0x90, 0x90);
	rd(f, LOC(1) + FIFO, 4);
	round_trip(f->m);
	assert_int_equal(rd(f, LOC(1) + STS, 4) >> 8 & 0xffff, 16);
	assert_int_equal(f->fake.commands, 1);
}

static void fails(struct fix *f)
{
	wr(f, STS, 1, 0x40);
	tis_send(f, 0);
	await(f, STS, 1, 0x90, 0x90);
	assert_int_equal(code(f), 0x101);
}

static void lies(enum fake_mood mood, unsigned good)
{
	struct fix *f = fix_new(false);

	wr(f, ACCESS, 1, 2);
	f->fake.mood = mood;
	for (unsigned i = 0; i < good; i++) {
		tis_send(f, 0);
		await(f, STS, 1, 0x90, 0x90);
		assert_int_equal(code(f), 0);
	}
	fails(f);
	/* From then on nobody asks it any more. */
	f->fake.mood = FAKE_GOOD;
	fails(f);
	assert_int_equal(f->fake.commands, 1);
	fix_free(f);
}

static void liars(void **state)
{
	setenv("LODGE_LOG", "error", 1);
	lies(FAKE_SHORT_SIZE, 0);
	lies(FAKE_HUGE_SIZE, 0);
	lies(FAKE_CLOSES, 0);
	lies(FAKE_TALKS_ON, 1);
}

/* It stops answering; nothing waits for it, and all can be taken down at once. */
static void hung(void **state)
{
	struct fix *f = fix_new(false);
	int64_t start = loop_now_ns();

	await_fake(f, &f->fake.inits, 2);
	f->fake.mood = FAKE_CONTROL_HUNG;
	wr(f, ACCESS, 1, 2);
	tis_send(f, 0);
	machine_lock(f->m);
	machine_reset_devs(f->m);
	machine_unlock(f->m);
	wr(f, ACCESS, 1, 2);
	tis_send(f, 0);
	loop_turn(f->m->loop, 1);
	assert_int_equal(rd(f, STS, 1) & 0x90, 0);
	fix_free(f);
	assert_true(loop_now_ns() - start < 3 * SEC);
}

static void no_tpm(void **state)
{
	struct machine *m = machine_make();
	struct err e = { "" };
	struct tpm *t;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	close(pair[1]);
	assert_true(tpm_new(m->loop, pair[0], "nobody", &t, &e) < 0);
	assert_non_null(strstr(e.msg, "nobody"));
	assert_int_equal(tpm_connect(m->loop, "/nonexistent/tpm", &t, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nonexistent/tpm"));
	machine_free(m);
}

/* One that runs already is told to end only if somebody has said so, and only while it can be spoken to. */
static void told_to_end(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		struct machine *m = machine_make();
		struct err e = { "" };
		struct fake_tpm fake;
		struct tpm *t;
		int fd = fake_start(&fake);
		int64_t start;

		assert_int_equal(tpm_new(m->loop, fd, "fake", &t, &e), 0);
		if (i)
			tpm_ends_with_us(t);
		if (i == 2)
			fake.mood = FAKE_CONTROL_HUNG;
		start = loop_now_ns();
		tpm_free(t);
		assert_true(loop_now_ns() - start < 3 * SEC);
		fake_end(&fake);
		assert_int_equal(fake.shutdowns, i == 1);
		machine_free(m);
	}
}

/* ---- command response buffer ---- */

static void crb_start(struct fix *f)
{
	wr(f, 0x08, 4, 1);
	assert_int_equal(rd(f, 0x0c, 4), 1);
	wr(f, 0x40, 4, 1);
	assert_int_equal(rd(f, 0x40, 4), 0);
	assert_int_equal(rd(f, 0x44, 4), 0);
	for (unsigned i = 0; i < sizeof(command); i += 4)
		wr(f, 0x80 + i, 4, ld_le32(command + i));
	wr(f, 0x4c, 4, 1);
}

static uint32_t crb_code(struct fix *f)
{
	return __builtin_bswap32((uint32_t)rd(f, 0x86, 2) | (uint32_t)rd(f, 0x88, 2) << 16);
}

static void crb(void **state)
{
	struct fix *f = *state;

	assert_int_equal(rd(f, 0x30, 8), 0x00011014000a5811ull);
	assert_int_equal(rd(f, 0x00, 4), 0x80);
	assert_int_equal(rd(f, 0x44, 4), 2);		/* idle */
	assert_int_equal(rd(f, 0x58, 4), 0xf80);
	assert_int_equal(rd(f, 0x5c, 8), BASE + 0x80);
	assert_int_equal(rd(f, 0x68, 8), BASE + 0x80);
	wr(f, 0x4c, 4, 1);				/* not while it is idle */
	assert_int_equal(rd(f, 0x4c, 4), 0);
	crb_start(f);
	await(f, 0x4c, 4, 1, 0);
	assert_int_equal(f->fake.commands, 1);
	assert_int_equal(crb_code(f), 0);
	assert_int_equal(rd(f, 0x80, 8), 0x0000140000000180ull);
	assert_int_equal(rd(f, 0x00, 4), 0x82);
	/* The longest response there is does not fit. */
	f->fake.answer_len = 4096;
	crb_start(f);
	await(f, 0x4c, 4, 1, 0);
	assert_int_equal(crb_code(f), 0x101);
	wr(f, 0x40, 4, 2);
	assert_int_equal(rd(f, 0x44, 4), 2);
	wr(f, 0x08, 4, 2);
	assert_int_equal(rd(f, 0x0c, 4), 0);
}

static void crb_cancel_and_save(void **state)
{
	struct fix *f = *state;

	f->fake.mood = FAKE_HUNG;
	crb_start(f);
	await_fake(f, &f->fake.commands, 1);
	wr(f, 0x80, 4, 0xffffffff);			/* the buffer is the TPM's now */
	wr(f, 0x48, 4, 1);
	await(f, 0x4c, 4, 1, 0);
	assert_int_equal(crb_code(f), 0x909);
	wr(f, 0x48, 4, 0);
	f->fake.mood = FAKE_GOOD;
	crb_start(f);
	round_trip(f->m);
	assert_int_equal(rd(f, 0x4c, 4), 0);
	assert_int_equal(crb_code(f), 0);
	assert_int_equal(f->fake.commands, 2);
	/* A size that no command has. */
	wr(f, 0x82, 4, 0xffffffff);
	wr(f, 0x4c, 4, 1);
	await(f, 0x4c, 4, 1, 0);
	assert_int_equal(crb_code(f), 0x142);
	assert_int_equal(f->fake.commands, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(tis_identity, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(tis_command, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(tis_localities, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(tis_interrupts, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(tis_bad_sizes, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(tis_cancel_and_abort, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(tis_cancel_of_one_that_waits, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(tis_reset, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(tis_saved, setup_tis, teardown),
		cmocka_unit_test_setup_teardown(crb, setup_crb, teardown),
		cmocka_unit_test_setup_teardown(crb_cancel_and_save, setup_crb, teardown),
		cmocka_unit_test(liars),
		cmocka_unit_test(hung),
		cmocka_unit_test(no_tpm),
		cmocka_unit_test(told_to_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
