/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pair of Intel 8237A DMA controllers of a PC with their page registers (data sheet 231466; ICH9 datasheet, 13.2):
 * channels 0 to 3 move bytes, 5 to 7 words, 4 joins the first chip to the second.
 *
 * A device asks by its DREQ; when the guest has set its channel up (now or later) the device hears of it and has
 * data moved, as much at a time as it likes.  All functions: machine lock held.
 */
#ifndef LODGE_CHIPSET_I8237_H
#define LODGE_CHIPSET_I8237_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct machine;
struct i8237;

#define I8237_CHANNELS 8

struct i8237_config {
	uint16_t low, high;	/* first port of channels 0 to 3 (16 ports), and of 4 to 7 (32) */
	uint16_t pages;		/* of the page registers (16 ports) */
};

/* 0, -ENOMEM, or what the bus says.  The machine owns it. */
int i8237_new(struct machine *m, const struct i8237_config *c, struct i8237 **out);
/* What firmware does: channel 4 passes on what channels 0 to 3 ask for.  After a reset. */
void i8237_init(struct i8237 *d);

/* Who is at a channel (0 to 7 but 4).  ready: DREQ is on and the channel would move something now; called from inside of the guest's
 * register writes and of i8237_request, so it may move data at once.  Before the machine runs. */
void i8237_attach(struct i8237 *d, unsigned channel, void (*ready)(void *opaque), void *opaque);
/* The channel's DREQ.  Loaded state has none: the device sets it again. */
void i8237_request(struct i8237 *d, unsigned channel, bool on);

/*
 * Moves up to len bytes (of a word channel: an even number) from the guest's memory to buf or the other way, as far as the count goes;
 * what was moved is returned, 0 if the channel is not ready or set up for the other direction.  *tc: the count has ended with this
 * (it is set then, else left alone).  Set up to verify, the channel counts and moves nothing.  Where there is no memory
 * ones are read, and what is written is lost.
 */
size_t i8237_from_memory(struct i8237 *d, unsigned channel, void *buf, size_t len, bool *tc);
size_t i8237_to_memory(struct i8237 *d, unsigned channel, const void *buf, size_t len, bool *tc);

#endif
