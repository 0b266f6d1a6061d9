// SPDX-License-Identifier: GPL-2.0-or-later
/* The monitor for people: copies of disks, and jobs. */
#include <stdlib.h>
#include <string.h>

#include "control/hmp.h"

/* Flags like -f and -n before the words that count: their letters; h->word then begins behind them. */
static int flags(struct hmp *h, const char *known, bool on[26])
{
	int at = 1;

	for (; at < h->n && h->word[at][0] == '-' && h->word[at][1] && strchr(known, h->word[at][1]) && !h->word[at][2]; at++)
		on[h->word[at][1] - 'a'] = true;
	return at;
}

/* DISK TARGET [FORMAT], as of drive_mirror and drive_backup. */
static void copy(struct hmp *h, const char *command, const char *usage)
{
	bool on[26] = { false };
	int at = flags(h, "fnc", on);
	json_t *args;

	if (h->n < at + 2) {
		fprintf(h->out, "usage: %s %s\r\n", h->word[0], usage);
		return;
	}
	args = json_pack("{s:s+,s:s+,s:s,s:s}", "device", h->word[at], "", "target", h->word[at + 1], "", "sync", on['f' - 'a'] ? "full" : "top",
			 "mode", on['n' - 'a'] ? "existing" : "absolute-paths");
	if (h->n > at + 2)
		json_object_set_new(args, "format", json_string(h->word[at + 2]));
	hmp_just(h, command, args);
}

void hmp_drive_mirror(struct hmp *h)
{
	copy(h, "drive-mirror", "[-n] [-f] DISK TARGET [FORMAT]");
}

void hmp_drive_backup(struct hmp *h)
{
	copy(h, "drive-backup", "[-n] [-f] DISK TARGET [FORMAT]");
}

static bool number(struct hmp *h, const char *word, json_int_t *out)
{
	char *end;

	*out = strtoll(word, &end, 0);
	if (end != word && !*end && *out >= 0)
		return true;
	fprintf(h->out, "Error: '%s' is not a number\r\n", word);
	return false;
}

void hmp_block_stream(struct hmp *h)
{
	json_t *args = json_pack("{s:s+}", "device", h->word[1], "");
	json_int_t speed;

	if (h->n > 2 && !number(h, h->word[2], &speed)) {
		json_decref(args);
		return;
	}
	if (h->n > 2)
		json_object_set_new(args, "speed", json_integer(speed));
	if (h->n > 3)
		json_object_set_new(args, "base", json_string(h->word[3]));
	hmp_just(h, "block-stream", args);
}

void hmp_job_pause(struct hmp *h)
{
	hmp_just(h, "block-job-pause", json_pack("{s:s+}", "device", h->word[1], ""));
}

void hmp_job_resume(struct hmp *h)
{
	hmp_just(h, "block-job-resume", json_pack("{s:s+}", "device", h->word[1], ""));
}

void hmp_job_set_speed(struct hmp *h)
{
	json_int_t speed;

	if (number(h, h->word[2], &speed))
		hmp_just(h, "block-job-set-speed", json_pack("{s:s+,s:I}", "device", h->word[1], "", "speed", speed));
}
