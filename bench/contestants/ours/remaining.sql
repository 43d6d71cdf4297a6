SELECT lag FROM es.subscriptions WHERE name = 'bench';
