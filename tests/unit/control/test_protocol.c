// SPDX-License-Identifier: GPL-2.0-or-later
/* Clients on a socket pair, of a VM that is built and not run: the loop is turned here. */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/control.h"
#include "control/gdb_int.h"
#include "../unit.h"

struct rig {
	struct conf *conf;
	struct vm_config cfg;
	struct vm *vm;
	struct control *ctl;
	struct machine *m;
};

static void set(struct rig *r, const char *key, const char *value)
{
	assert_int_equal(conf_set(r->conf, key, value, NULL), 0);
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err e = { .msg = "" };

	vm_block_signals();
	assert_int_equal(conf_new(&r->conf), 0);
	set(r, "kernel", "/dev/null");
	set(r, "accel", "interp");
	set(r, "memory", "4M");
	set(r, "console", "none");
	set(r, "control", "off");
	set(r, "disk.0.file", "null-co://16M");
	set(r, "disk.0.iothread", "off");
	set(r, "net.0.kind", "none");
	set(r, "uuid", "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff");
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(conf_setf(r->conf, "null", NULL, "chardev.%u.kind", i), 0);
		assert_int_equal(conf_setf(r->conf, i ? "c1" : "c0", NULL, "chardev.%u.id", i), 0);
		assert_int_equal(conf_setf(r->conf, i ? "p1" : "p0", NULL, "port.%u.name", i), 0);
		assert_int_equal(conf_setf(r->conf, i ? "c1" : "c0", NULL, "port.%u.chardev", i), 0);
	}
	set(r, "chardev.2.kind", "ringbuf");
	set(r, "chardev.2.id", "mon");
	set(r, "monitor.0", "mon");
	assert_int_equal(vm_config_from(r->conf, &r->cfg, &e), 0);
	if (vm_new(&r->cfg, &r->vm, &e))
		fail_msg("%s", e.msg);
	r->m = vm_machine(r->vm);
	assert_int_equal(control_new(r->vm, &r->ctl, &e), 0);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	control_free(r->ctl);
	vm_free(r->vm);
	conf_free(r->conf);
	free(r);
	return 0;
}

static void turns(struct rig *r, unsigned n)
{
	while (n--)
		assert_int_equal(loop_turn(r->m->loop, 0), 0);
}

static int join(struct rig *r)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	machine_lock(r->m);
	assert_int_equal(control_attach(r->ctl, fds[1]), 0);
	machine_unlock(r->m);
	return fds[0];
}

/* What the server says after `text`, all of it, without line ends' CR. */
static const char *say(struct rig *r, int fd, const char *text)
{
	static char got[1 << 18];
	size_t n = 0;
	ssize_t k;

	if (*text)
		assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	for (unsigned i = 0; i < 40; i++) {
		turns(r, 2);
		k = recv(fd, got + n, sizeof(got) - 1 - n, MSG_DONTWAIT);
		n += k > 0 ? (size_t)k : 0;
	}
	got[n] = '\0';
	for (char *p = got; (p = strchr(p, '\r'));)
		memmove(p, p + 1, strlen(p));
	return got;
}

#define CAPS "{\"execute\":\"qmp_capabilities\"}"
#define DONE "{\"return\": {}}\n"

static void test_negotiation(void **state)
{
	struct rig *r = *state;
	int fd = join(r);

	assert_true(strstr(say(r, fd, ""), "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}") != NULL);
	assert_string_equal(say(r, fd, "{\"execute\":\"query-name\",\"id\":[1]}"),
			    "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting capabilities negotiation with "
			    "'qmp_capabilities'\"}, \"id\": [1]}\n");
	assert_string_equal(say(r, fd, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"x\"]}}"),
			    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Parameter 'null' does not accept value 'x'\"}}\n");
	assert_string_equal(say(r, fd, CAPS), DONE);
	assert_string_equal(say(r, fd, CAPS), "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Capabilities negotiation is "
			    "already complete, command ignored\"}}\n");
	/* Without the capability exec-oob is an unknown member. */
	assert_string_equal(say(r, fd, "{\"exec-oob\":\"x-lodge-info\"}"),
			    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"QMP input member 'exec-oob' is unexpected\"}}\n");
	close(fd);
	turns(r, 20);
	assert_int_equal(control_clients(r->ctl), 0);
}

static void test_requests(void **state)
{
	static const struct { const char *in, *desc; } of[] = {
		{ "[]", "QMP input must be a JSON object" },
		{ "{}", "QMP input lacks member 'execute'" },
		{ "{\"execute\":1}", "QMP input member 'execute' must be a string" },
		{ "{\"execute\":\"stop\",\"arguments\":[]}", "QMP input member 'arguments' must be an object" },
		{ "{\"execute\":\"stop\",\"x\":1}", "QMP input member 'x' is unexpected" },
		{ "{\"execute\":\"stop\",\"arguments\":{\"a\":1}}", "Parameter 'a' is unexpected" },
		{ "{\"execute\":\"balloon\",\"arguments\":{}}", "Parameter 'value' is missing" },
		{ "{\"execute\":\"balloon\",\"arguments\":{\"value\":9223372036854775808}}", "JSON parse error, too big integer near '9223372036854775808'" },
		{ "{\"execute\":\"stop\",\"execute\":\"stop\"}", "JSON parse error, duplicate object key near '\"execute\"'" },
	};
	struct rig *r = *state;
	int fd = join(r);
	char want[512];

	say(r, fd, CAPS);
	for (size_t i = 0; i < ARRAY_LEN(of); i++) {
		json_t *d = json_string(of[i].desc);
		char *text = json_dumps(d, JSON_ENCODE_ANY);

		snprintf(want, sizeof(want), "{\"error\": {\"class\": \"GenericError\", \"desc\": %s}}\n", text);
		assert_string_equal(say(r, fd, of[i].in), want);
		free(text);
		json_decref(d);
	}
	assert_string_equal(say(r, fd, "{\"execute\":\"query-name\",\"id\":9007199254740993}{'execute':'query-uuid'}"),
			    "{\"return\": {\"name\": \"guest\"}, \"id\": 9007199254740993}\n"
			    "{\"return\": {\"UUID\": \"f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff\"}}\n");
	close(fd);
	turns(r, 20);
	assert_int_equal(control_clients(r->ctl), 0);
}

/* Out of band: done while a command before it takes its time; others queue up behind it. */
static void test_oob(void **state)
{
	struct rig *r = *state;
	const char *got;
	int fd = join(r);
	struct ctl_call c = { .ctl = r->ctl }, *d;
	struct ctl_monitor *m = list_entry(r->ctl->monitors.prev, struct ctl_monitor, node);

	say(r, fd, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}");
	c.mon = m;
	d = ctl_defer(&c, &r->ctl->stops);
	assert_non_null(d);
	got = say(r, fd, "{\"execute\":\"query-name\"}{\"exec-oob\":\"x-lodge-info\",\"id\":1}{\"exec-oob\":\"query-name\",\"id\":2}");
	assert_null(strstr(got, "\"return\": {\"name\": \"guest\"}}"));
	assert_non_null(strstr(got, "\"id\": 1}"));
	assert_non_null(strstr(got, "The command query-name does not support OOB"));
	ctl_answer(d);
	assert_string_equal(say(r, fd, ""), DONE "{\"return\": {\"name\": \"guest\"}}\n");
	/* A client that is gone before its answer is there. */
	d = ctl_defer(&c, &r->ctl->stops);
	close(fd);
	turns(r, 20);
	/* It stays until the command has ended, or is dropped at once: either way the answer finds nobody. */
	ctl_answer(d);
	turns(r, 20);
	assert_int_equal(control_clients(r->ctl), 0);
}

/* Who does not read: not read from, loses events, and nobody else notices. */
static void test_deaf(void **state)
{
	struct rig *r = *state;
	int deaf = join(r), other = join(r), fd2;
	const char ask[] = "{\"execute\":\"query-qmp-schema\"}";
	struct ctl_monitor *m;
	size_t sent = 0;
	unsigned i;

	say(r, other, CAPS);
	say(r, deaf, CAPS);
	m = list_entry(r->ctl->monitors.next, struct ctl_monitor, node);
	for (i = 0; i < 20000; i++) {
		ssize_t n = send(deaf, ask, sizeof(ask) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);

		sent += n > 0 ? (size_t)n : 0;
		turns(r, 1);
	}
	assert_true(sent < 20000 * (sizeof(ask) - 1));
	assert_true(m->out_len - m->out_off < CTL_OUT_LOW + (1u << 18));
	machine_lock(r->m);
	for (i = 0; i < 20000; i++) {
		ctl_emit(r->ctl, CTL_EVENT_STOP, NULL);
		if (i % 64 == 0) {
			static char waste[65536];

			while (recv(other, waste, sizeof(waste), MSG_DONTWAIT) > 0)
				;
		}
	}
	machine_unlock(r->m);
	assert_true(m->events_lost > 0);
	assert_true(m->out_len - m->out_off <= CTL_OUT_MAX + (1u << 18));
	say(r, other, "");
	assert_string_equal(say(r, other, "{\"execute\":\"query-name\"}"), "{\"return\": {\"name\": \"guest\"}}\n");
	close(deaf);
	fd2 = join(r);
	say(r, fd2, "");
	close(fd2);
	close(other);
	/* What it sent before it went is still done, as far as sockets hold it. */
	for (i = 0; control_clients(r->ctl) && i < 40000; i++)
		turns(r, 1);
	assert_int_equal(control_clients(r->ctl), 0);
}

/* 100 MB without an end are forgotten as they come. */
static void test_endless(void **state)
{
	static char piece[1 << 16];
	struct rig *r = *state;
	int fd = join(r);
	struct ctl_monitor *m = list_entry(r->ctl->monitors.prev, struct ctl_monitor, node);
	size_t left = 100u << 20;

	say(r, fd, CAPS "{\"execute\":\"");
	memset(piece, 'x', sizeof(piece));
	while (left) {
		ssize_t n = send(fd, piece, MIN(sizeof(piece), left), MSG_DONTWAIT | MSG_NOSIGNAL);

		left -= n > 0 ? (size_t)n : 0;
		turns(r, 1);
	}
	assert_true(m->split.cap <= CTL_MAX_MESSAGE);
	assert_string_equal(say(r, fd, "\"}\n{\"execute\":\"query-name\"}"),
			    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON token size limit exceeded\"}}\n"
			    "{\"return\": {\"name\": \"guest\"}}\n");
	close(fd);
	turns(r, 20);
	assert_int_equal(control_clients(r->ctl), 0);
}

static void send_fd(int sock, const char *text, int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	assert_true(sendmsg(sock, &h, 0) > 0);
}

static void test_descriptors(void **state)
{
	struct rig *r = *state;
	int fd = join(r), null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const char *got;

	say(r, fd, CAPS);
	assert_non_null(strstr(say(r, fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"a\"}}"),
			       "No file descriptor supplied via SCM_RIGHTS"));
	send_fd(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"a\"}}", null);
	assert_string_equal(say(r, fd, ""), DONE);
	send_fd(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"1a\"}}", null);
	assert_non_null(strstr(say(r, fd, ""), "expects a name not starting with a digit"));
	assert_string_equal(say(r, fd, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"a\"}}"), DONE);
	assert_non_null(strstr(say(r, fd, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"a\"}}"),
			       "File descriptor named 'a' not found"));
	send_fd(fd, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":4,\"opaque\":\"x\"}}", null);
	assert_non_null(strstr(say(r, fd, ""), "\"fdset-id\": 4"));
	send_fd(fd, "{\"execute\":\"add-fd\"}", null);
	assert_non_null(strstr(say(r, fd, ""), "\"fdset-id\": 0"));
	got = say(r, fd, "{\"execute\":\"query-fdsets\"}");
	assert_non_null(strstr(got, "{\"return\": [{\"fdset-id\": 0, \"fds\": [{\"fd\": "));
	assert_non_null(strstr(got, "\"opaque\": \"x\""));
	assert_string_equal(say(r, fd, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":4}}"), DONE);
	assert_non_null(strstr(say(r, fd, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":4}}"),
			       "File descriptor named 'fdset-id:4' not found"));
	close(null);
	close(fd);
	turns(r, 20);
	assert_int_equal(control_clients(r->ctl), 0);
}

/* Who comes by TCP, however the connection came here, has to begin with JSON: it may be a browser. */
static void test_stray(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	struct rig *r = *state;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;

	assert_int_equal(bind(listener, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	peer = accept(listener, NULL, NULL);
	assert_true(peer >= 0);
	machine_lock(r->m);
	assert_int_equal(control_attach(r->ctl, peer), 0);
	machine_unlock(r->m);
	assert_null(strstr(say(r, fd, "POST / HTTP/1.1\r\n\r\n" CAPS), "return"));
	assert_int_equal(control_clients(r->ctl), 0);
	close(fd);
	close(listener);
}

/* The end of the guest waits for jobs: none is begun any more. */
static void test_ending(void **state)
{
	struct rig *r = *state;
	int fd = join(r);

	say(r, fd, CAPS);
	r->ctl->ending = true;
	assert_non_null(strstr(say(r, fd, "{\"execute\":\"drive-backup\",\"arguments\":{\"device\":\"disk0\",\"target\":\"/nowhere/x\","
					  "\"sync\":\"none\"}}"), "the guest is ending"));
	r->ctl->ending = false;
	close(fd);
	turns(r, 20);
}

static void port(struct rig *r, unsigned n, bool open)
{
	machine_lock(r->m);
	ctl_port_event(r->ctl, (int64_t)n << 1 | open);
	machine_unlock(r->m);
}

/* A port that opens and closes all the time keeps nobody from hearing of the others. */
static void test_ports(void **state)
{
	struct rig *r = *state;
	int fd = join(r);
	const char *got;

	say(r, fd, CAPS);
	for (unsigned i = 0; i < 100; i++)
		port(r, 1, i % 2 == 0);
	port(r, 2, true);
	got = say(r, fd, "");
	assert_non_null(strstr(got, "{\"id\": \"p0\", \"open\": true}"));
	assert_null(strstr(got, "{\"id\": \"p0\", \"open\": false}"));
	assert_non_null(strstr(got, "{\"id\": \"p1\", \"open\": true}"));
	/* The last of it comes when the second is over. */
	for (unsigned i = 0; i < 80 && !*(got = say(r, fd, "")); i++)
		assert_int_equal(loop_turn(r->m->loop, 20), 0);
	assert_non_null(strstr(got, "{\"id\": \"p0\", \"open\": false}"));
	close(fd);
	turns(r, 20);
}

/* Chardevs that come and go; the monitor's is exchanged under it. */
static void test_chardevs(void **state)
{
	static const struct { const char *say, *hear; } of[] = {
		{ "{\"execute\":\"chardev-remove\",\"arguments\":{\"id\":\"c0\"}}", "Chardev 'c0' is busy" },
		{ "{\"execute\":\"chardev-remove\",\"arguments\":{\"id\":\"mon\"}}", "Chardev 'mon' is busy" },
		{ "{\"execute\":\"chardev-remove\",\"arguments\":{\"id\":\"x\"}}", "Chardev 'x' not found" },
		{ "{\"execute\":\"chardev-send-break\",\"arguments\":{\"id\":\"x\"}}", "Chardev 'x' not found" },
		{ "{\"execute\":\"chardev-send-break\",\"arguments\":{\"id\":\"mon\"}}", DONE },
		{ "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"c0\",\"backend\":{\"type\":\"null\",\"data\":{}}}}", "Chardev with id 'c0' already exists" },
		{ "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"x\",\"backend\":{\"type\":\"odd\",\"data\":{}}}}", "does not accept value 'odd'" },
		{ "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"x\",\"backend\":{\"type\":\"ringbuf\",\"data\":{\"size\":3}}}}", "power of two" },
		{ "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"x\",\"backend\":{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"fd\","
		  "\"data\":{\"str\":\"none\"}}}}}}", "'none' has not been found" },
		{ "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"x\",\"backend\":{\"type\":\"socket\",\"data\":{\"server\":false,\"reconnect\":1,\"addr\":{\"type\":\"fd\","
		  "\"data\":{\"str\":\"none\"}}}}}}", "'reconnect' option is incompatible with 'fd'" },
		{ "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"x\",\"backend\":{\"type\":\"socket\",\"data\":{\"server\":false,\"addr\":{\"type\":\"inet\","
		  "\"data\":{\"host\":\"a.name\",\"port\":\"1\"}}}}}}", "a.name:1: " },
		{ "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"x\",\"backend\":{\"type\":\"pty\",\"data\":{}}}}", "{\"return\": {\"pty\": \"/dev/pts/" },
		{ "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"m\",\"backend\":{\"type\":\"mux\",\"data\":{\"chardev\":\"x\"}}}}", DONE },
		{ "{\"execute\":\"chardev-change\",\"arguments\":{\"id\":\"m\",\"backend\":{\"type\":\"null\",\"data\":{}}}}", "hotswap not supported" },
		{ "{\"execute\":\"x-lodge-port-add\",\"arguments\":{\"name\":\"n\",\"chardev\":\"m\"}}", DONE },
		{ "{\"execute\":\"chardev-remove\",\"arguments\":{\"id\":\"m\"}}", "Chardev 'm' is busy" },
		{ "{\"execute\":\"x-lodge-port-remove\",\"arguments\":{\"name\":\"n\"}}", DONE },
		{ "{\"execute\":\"chardev-remove\",\"arguments\":{\"id\":\"m\"}}", DONE },
		{ "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"chardev-add ringbuf,id=a,,b,size=64\"}}", "{\"return\": \"\"}" },
		{ "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"chardev-add null,odd=1\"}}", "Invalid parameter 'odd'" },
		{ "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"chardev-remove a,b\"}}", "{\"return\": \"\"}" },
		{ "{\"execute\":\"chardev-change\",\"arguments\":{\"id\":\"x\",\"backend\":{\"type\":\"null\",\"data\":{}}}}", "Chardev 'x' does not exist" },
		/* The monitor greets who is there now; twice, so that what came in between goes, too. */
		{ "{\"execute\":\"ringbuf-read\",\"arguments\":{\"device\":\"mon\",\"size\":4096}}", "(qemu) " },
		{ "{\"execute\":\"chardev-change\",\"arguments\":{\"id\":\"mon\",\"backend\":{\"type\":\"null\",\"data\":{}}}}", DONE },
		{ "{\"execute\":\"chardev-change\",\"arguments\":{\"id\":\"mon\",\"backend\":{\"type\":\"ringbuf\",\"data\":{}}}}", DONE },
		{ "{\"execute\":\"ringbuf-read\",\"arguments\":{\"device\":\"mon\",\"size\":4096}}", "(qemu) " },
	};
	struct rig *r = *state;
	int fd = join(r), pair[2];
	char got[2048] = "";

	say(r, fd, CAPS);
	for (unsigned i = 0; i < ARRAY_LEN(of); i++)
		if (!strstr(say(r, fd, of[i].say), of[i].hear))
			fail_msg("%s\n%s", of[i].say, say(r, fd, of[i].say));
	/* A socket that comes along: the monitor is on it from now on. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	send_fd(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"s\"}}", pair[1]);
	assert_string_equal(say(r, fd, ""), DONE);
	close(pair[1]);
	assert_string_equal(say(r, fd, "{\"execute\":\"chardev-change\",\"arguments\":{\"id\":\"mon\",\"backend\":{\"type\":\"socket\",\"data\":{\"server\":false,"
				       "\"addr\":{\"type\":\"fd\",\"data\":{\"str\":\"s\"}}}}}}"), DONE);
	assert_int_equal(send(pair[0], "info name\n", 10, MSG_NOSIGNAL), 10);
	say(r, fd, "");
	assert_true(recv(pair[0], got, sizeof(got) - 1, MSG_DONTWAIT) > 0);
	assert_non_null(strstr(got, "monitor - type 'help'"));
	assert_non_null(strstr(got, "\r\nguest\r\n(qemu) "));
	close(pair[0]);
	close(fd);
	turns(r, 20);
}

static void test_uuid(void **state)
{
	struct rig *r = *state;
	int fd = join(r);

	say(r, fd, CAPS);
	assert_string_equal(say(r, fd, "{\"execute\":\"query-uuid\"}"), "{\"return\": {\"UUID\": \"f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff\"}}\n");
	close(fd);
	turns(r, 20);
}

/* Ports and networks that come and go; what cannot be plugged in here says so. */
static void test_devices(void **state)
{
	static const struct {
		const char *line, *answer;
	} steps[] = {
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"tulip\"}}",
		  "'tulip' is not a valid device model name" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"virtserialport\",\"chardev\":\"c1\",\"name\":\"p2\",\"id\":\"x\"}}",
		  "in use" },
		{ "{\"execute\":\"x-lodge-port-remove\",\"arguments\":{\"name\":\"p1\"}}",
		  "{\"return\": {}}" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"virtserialport\",\"chardev\":\"c1\",\"name\":\"p2\",\"id\":\"0x\"}}",
		  "identifier" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"virtserialport\",\"chardev\":\"c1\",\"name\":\"p2\",\"id\":\"x\",\"odd\":1}}",
		  "Property 'virtserialport.odd' not found" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"virtserialport\",\"chardev\":\"c1\",\"name\":\"p2\",\"id\":\"x\",\"nr\":[1]}}",
		  "neither text nor a number" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"virtserialport\",\"chardev\":\"c1\",\"name\":\"p2\",\"id\":\"x\",\"nr\":5}}",
		  "{\"return\": {}}" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"usb-kbd\",\"id\":\"x\"}}",
		  "Duplicate device ID 'x'" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"usb-kbd\",\"id\":\"y\"}}",
		  "No 'usb-bus' bus found" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"scsi-hd\",\"drive\":\"d\"}}",
		  "No 'SCSI' bus found" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"virtio-blk-pci\",\"x-lodge-file\":\"null-co://1M\"}}",
		  "no root port is free" },
		{ "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"y\"}}",
		  "\"class\": \"DeviceNotFound\"" },
		{ "{\"execute\":\"netdev_add\",\"arguments\":{\"type\":\"hub\",\"id\":\"n\"}}",
		  "user and tap" },
		{ "{\"execute\":\"netdev_add\",\"arguments\":{\"type\":\"user\",\"id\":\"n\",\"ifname\":\"t\"}}",
		  "Parameter 'ifname' is unexpected" },
		{ "{\"execute\":\"netdev_add\",\"arguments\":{\"type\":\"user\",\"id\":\"n\",\"hostfwd\":[{\"str\":\"x\"}]}}",
		  "invalid host forwarding rule 'x'" },
		{ "{\"execute\":\"netdev_add\",\"arguments\":{\"type\":\"user\",\"id\":\"n\",\"restrict\":true}}",
		  "{\"return\": {}}" },
		{ "{\"execute\":\"netdev_add\",\"arguments\":{\"type\":\"user\",\"id\":\"n\"}}",
		  "Duplicate ID 'n'" },
		{ "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"e1000e\",\"netdev\":\"m\"}}",
		  "can't find value 'm'" },
		{ "{\"execute\":\"netdev_del\",\"arguments\":{\"id\":\"n\"}}",
		  "{\"return\": {}}" },
		{ "{\"execute\":\"netdev_del\",\"arguments\":{\"id\":\"n\"}}",
		  "\"class\": \"DeviceNotFound\"" },
	};
	struct rig *r = *state;
	const char *answer;
	int fd = join(r);

	say(r, fd, CAPS);
	for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
		answer = say(r, fd, steps[i].line);
		if (!strstr(answer, steps[i].answer))
			fail_msg("%s gives %s", steps[i].line, answer);
	}
	answer = say(r, fd, "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"/machine/peripheral/x\"}}");
	assert_non_null(strstr(answer, "\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"x\", \"path\": \"/machine/peripheral/x\"}"));
	close(fd);
	turns(r, 20);
}

/* A copy of what is overwritten from now on says nothing of what a bitmap knows. */
static void test_bitmap_modes(void **state)
{
	struct rig *r = *state;
	int fd = join(r);

	say(r, fd, CAPS);
	assert_non_null(strstr(say(r, fd, "{\"execute\":\"drive-backup\",\"arguments\":{\"device\":\"disk0\",\"target\":\"/nowhere/x\","
					  "\"sync\":\"none\",\"bitmap\":\"b\"}}"), "Bitmap 'b' could not be found"));
	assert_non_null(strstr(say(r, fd, "{\"execute\":\"drive-backup\",\"arguments\":{\"device\":\"disk0\",\"target\":\"/nowhere/x\","
					  "\"sync\":\"full\",\"bitmap-mode\":\"never\"}}"), "Cannot specify bitmap sync mode without a bitmap"));
	assert_non_null(strstr(say(r, fd, "{\"execute\":\"transaction\",\"arguments\":{\"actions\":[{\"type\":\"abort\",\"data\":{}}]}}"),
			       "Transaction aborted using Abort action"));
	close(fd);
	turns(r, 20);
}

#define NBD_START "{\"execute\":\"nbd-server-start\",\"arguments\":{\"addr\":{\"type\":"

/* Nothing that takes time: names are not looked up, and who cannot be accepted does not keep the loop turning. */
static void test_nbd_listener(void **state)
{
	struct rig *r = *state;
	char dir[] = "/tmp/test-protocol-XXXXXX", path[64], text[256];
	struct rlimit before, now;
	struct stat st;
	int64_t start;
	int fd = join(r), client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), probe;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/n", dir);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	say(r, fd, CAPS);
	assert_non_null(strstr(say(r, fd, NBD_START "\"inet\",\"data\":{\"host\":\"localhost\",\"port\":\"0\"}}}}"), "tcp:localhost:0"));
	snprintf(text, sizeof(text), NBD_START "\"unix\",\"data\":{\"path\":\"%s\"}}}}", path);
	assert_string_equal(say(r, fd, text), DONE);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	probe = dup(fd);
	close(probe);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	now = before;
	now.rlim_cur = (rlim_t)probe;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&sun, sizeof(sun)), 0);
	start = loop_now_ns();
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(loop_turn(r->m->loop, 20), 0);
	assert_true(loop_now_ns() - start > 100000000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	/* It is looked at again, and turned away since nothing is shown. */
	for (unsigned i = 0; i < 200 && recv(client, text, 1, MSG_DONTWAIT) < 0; i++)
		assert_int_equal(loop_turn(r->m->loop, 20), 0);
	assert_int_equal(recv(client, text, 1, MSG_DONTWAIT), 0);
	close(client);
	assert_string_equal(say(r, fd, "{\"execute\":\"nbd-server-stop\"}"), DONE);
	rmdir(dir);
	close(fd);
	turns(r, 20);
}

static int gdb_join(struct rig *r, const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	turns(r, 10);
	return fd;
}

/* gdb is gone while the guest runs, so it is to stand still for a moment, and another client has it go on before that. */
static void test_gdb_gone_and_cont(void **state)
{
	struct rig *r = *state;
	char folder[] = "/tmp/gdb-XXXXXX", path[64], text[80];
	struct err e = { .msg = "" };
	int fd;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/s", folder);
	snprintf(text, sizeof(text), "unix:%s", path);
	assert_int_equal(gdb_new(r->ctl, text, &e), 0);
	fd = gdb_join(r, path);
	assert_string_equal(say(r, fd, "$?#3f"), "+$T05thread:01;#07");
	assert_string_equal(say(r, fd, "+$c#63"), "+");
	machine_lock(r->m);
	gdb_drop(r->ctl->gdb);
	vm_resume(r->vm);
	machine_unlock(r->m);
	turns(r, 10);
	assert_false(vm_paused(r->vm));
	close(fd);
	fd = gdb_join(r, path);
	assert_string_equal(say(r, fd, "$?#3f"), "+$T05thread:01;#07");
	close(fd);
	turns(r, 10);
	unlink(path);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_negotiation), CASE(test_requests), CASE(test_oob), CASE(test_deaf), CASE(test_endless), CASE(test_descriptors),
		CASE(test_stray), CASE(test_ending), CASE(test_nbd_listener), CASE(test_ports), CASE(test_chardevs), CASE(test_bitmap_modes), CASE(test_uuid), CASE(test_devices), CASE(test_gdb_gone_and_cont),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
