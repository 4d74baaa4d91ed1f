'use strict';
require('./javascript.js');
require('./addon.js');
require('./harness.js').runAll();
