/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img measures with its thread's CPU clock how long a key takes to derive, and
 * gives up where that clock stood still meanwhile: on some virtual machines more
 * often than not.
 */
#ifndef LODGE_TESTS_BLOCK_PATIENT_H
#define LODGE_TESTS_BLOCK_PATIENT_H

/* Shell text: the command, again and again while that is all that is wrong; its messages go to the file `said` and on. */
#define PATIENTLY(command) \
	"no=1; for k in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do { " command "; } 2>said && no=0 && break; cat said >&2; " \
	"grep -q 'accurate CPU usage' said || break; done; test $no = 0"

#endif
