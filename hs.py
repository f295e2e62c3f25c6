import socket,time,sys
from fake import start,H
s,u=start(); print(u,flush=True); port=s.server_port
time.sleep(float(sys.argv[1]))
s.shutdown(); s.server_close()
l=socket.socket(); l.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); l.bind(('127.0.0.1',port)); l.listen(0)
fill=[]
for i in range(4):
    c=socket.socket(); c.setblocking(False)
    try: c.connect(('127.0.0.1',port))
    except BlockingIOError: pass
    fill.append(c)
print('hole',flush=True); time.sleep(60)
