const live=document.getElementById('live');
(async()=>{for(;;){await new Promise(r=>setTimeout(r,1000));
if(document.hidden)continue;
try{const r=await fetch(location.href,{headers:{Accept:'text/html'},signal:AbortSignal.timeout(4000)}),
d=new DOMParser().parseFromString(await r.text(),'text/html'),m=d.querySelector('main');
if(!m)throw 0;document.querySelector('main').replaceWith(m);document.title=d.title;
live.textContent='live';live.className='on'}
catch{live.textContent='not reachable, trying again';live.className='off'}}})()
