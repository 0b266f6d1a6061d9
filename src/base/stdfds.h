/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Standard descriptors that are there. */
#ifndef LODGE_BASE_STDFDS_H
#define LODGE_BASE_STDFDS_H

/* Opens /dev/null for each of descriptors 0, 1 and 2 that is closed, so that no
 * file opened later becomes standard input or output by accident.  The first
 * thing a program's main does.  0 or -errno. */
int std_fds_open(void);

#endif
