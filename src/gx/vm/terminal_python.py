# python3 -c THIS DIR UMASK SHELL TOKEN FLAGS ROWS COLUMNS INNER: run INNER in a
# pseudo-terminal: its output goes to stdout, its input comes in parts.
import os, pty, select, signal, sys
j = sys.argv[1]
pid, fd = pty.fork()
if pid == 0:
	os.environ.pop('GX_inner', None)
	for s in signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE:
		signal.signal(s, signal.SIG_DFL)
	os.execvp('sh', ['sh', '-c', sys.argv[8], 'gx-run'] + sys.argv[1:8])
os.set_blocking(fd, False)
wake = os.open(j + '/wake', os.O_RDWR | os.O_NONBLOCK)
n, ended, pending, status = 1, False, b'', None
def part(name):
	try:
		with open(j + '/' + name, 'rb') as f:
			return f.read()
	except OSError:
		return None
while True:
	r, w, x = select.select([fd, wake], [fd] if pending else [], [], 0.5)
	if fd in r:
		try:
			data = os.read(fd, 65536)
		except OSError:
			break
		while data:
			data = data[os.write(1, data):]
	elif status is not None:
		break
	if wake in r:
		os.read(wake, 65536)
	while len(pending) < 65536 and os.path.exists(j + '/in.%d' % n):
		pending += part('in.%d' % n)
		os.unlink(j + '/in.%d' % n)
		with open(j + '/fed', 'w') as f:
			f.write('%d\n' % n)
		n += 1
	if not ended and (part('in.end') or b'').strip() == b'%d' % (n - 1):
		ended = True
		pending += b'\4'
	if pending and fd in w:
		try:
			pending = pending[os.write(fd, pending[:1024]):]
		except OSError:
			pass
	if status is None:
		p, s = os.waitpid(pid, os.WNOHANG)
		if p:
			status = s
if status is None:
	status = os.waitpid(pid, 0)[1]
os._exit(status >> 8 if status & 127 == 0 else 128 + (status & 127))
