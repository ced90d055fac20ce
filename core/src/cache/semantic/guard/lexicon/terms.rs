//! Closed sets: two prompts that name different members of one set ask different things.
//! Synonyms of one member are joined by `=`, the words of a phrase by `_`.

/// The sets; a set's place in the list is its tag.
pub(super) const SETS: &[&str] = &[
    // Countries and nationalities.
    "china=chinese=中国=中國 india=indian=印度 japan=japanese=日本=日语=日文=日本语 germany=german=德国=德语=德文 france=french=法国=法语=法文 \
spain=spanish=西班牙=西班牙语 italy=italian=意大利=意大利语 russia=russian=俄罗斯=俄语=俄国 english=英语=英文 canada=canadian=加拿大 \
australia=australian=澳大利亚=澳洲 brazil=brazilian=巴西 mexico=mexican=墨西哥 pakistan=pakistani=巴基斯坦 bangladesh nepal=尼泊尔 \
korea=korean=south_korea=韩国=韩语=韩文 north_korea=朝鲜 singapore=新加坡 malaysia=马来西亚 thailand=thai=泰国=泰语 vietnam=vietnamese=越南 \
indonesia=印尼=印度尼西亚 philippines=菲律宾 turkey=turkish=土耳其 iran=iranian=伊朗 iraq=伊拉克 israel=israeli=以色列 palestine=巴勒斯坦 \
saudi_arabia=沙特 egypt=egyptian=埃及 greece=greek=希腊 portugal=portuguese=葡萄牙 sweden=swedish=瑞典 norway=norwegian=挪威 denmark=danish=丹麦 \
finland=finnish=芬兰 poland=polish=波兰 ukraine=ukrainian=乌克兰 switzerland=swiss=瑞士 austria=奥地利 netherlands=dutch=holland=荷兰 belgium=比利时 ireland=irish=爱尔兰 \
scotland=scottish=苏格兰 argentina=阿根廷 nigeria south_africa=南非 new_zealand=新西兰 usa=american=us_country=美国=美式=美语 \
uk=britain=british=united_kingdom=英国 taiwan=台湾=taiwanese europe=european=欧洲 asia=asian=亚洲 africa=african=非洲 latin=拉丁语 arabic=阿拉伯语 hindi tamil telugu \
cantonese=粤语=广东话 mandarin=普通话 uae dubai=迪拜 romania hungary czech croatia chile peru colombia venezuela cuba kenya ethiopia morocco afghanistan sri_lanka myanmar cambodia",
    // Cities, provinces and states.
    "london=伦敦 paris=巴黎 berlin=柏林 tokyo=东京 beijing=peking=北京 shanghai=上海 guangzhou=广州 shenzhen=深圳 hangzhou=杭州 nanjing=南京 wuhan=武汉 \
chengdu=成都 chongqing=重庆 tianjin=天津 xian=西安 suzhou=苏州 changsha=长沙 zhengzhou=郑州 qingdao=青岛 jinan=济南 dalian=大连 shenyang=沈阳 haerbin=哈尔滨 \
厦门=xiamen 福州 昆明 贵阳 南宁 南昌 合肥 太原 石家庄 兰州 宁波 无锡 常州 东莞 佛山 珠海 海口 三亚 拉萨 温州 徐州 洛阳 桂林 香港=hong_kong 澳门 \
广东 浙江 江苏 山东 河南 河北 山西 陕西 湖南 湖北 四川 安徽 江西 福建 广西 云南 贵州 海南 辽宁 吉林 黑龙江 内蒙古 新疆 西藏 甘肃 青海 宁夏 \
delhi=new_delhi mumbai=bombay bangalore=bengaluru chennai hyderabad kolkata pune nagpur jaipur ahmedabad lucknow kerala gujarat punjab maharashtra goa noida gurgaon kashmir \
new_york=nyc=纽约 boston=波士顿 chicago=芝加哥 seattle=西雅图 san_francisco=旧金山 los_angeles=洛杉矶 california texas florida washington houston dallas austin denver atlanta miami \
sydney=悉尼 melbourne=墨尔本 toronto=多伦多 vancouver=温哥华 moscow=莫斯科 rome=罗马 milan madrid=马德里 barcelona vienna=维也纳 amsterdam dublin lisbon munich zurich geneva seoul=首尔 bangkok=曼谷",
    // Months.
    "january=一月 february=二月 march_month=三月 april=四月 may_month=五月 june=六月 july=七月 august=八月 september=九月 october=十月 november=十一月 december=十二月",
    // Days of the week.
    "monday=星期一=周一=礼拜一 tuesday=星期二=周二=礼拜二 wednesday=星期三=周三=礼拜三 thursday=星期四=周四=礼拜四 friday=星期五=周五=礼拜五 saturday=星期六=周六=礼拜六 sunday=星期日=星期天=周日=周末=礼拜天=weekend",
    // Days and times seen from now.
    "today=今天=今日 yesterday=昨天=昨日 tomorrow=明天=明日 后天 前天",
    "this_year=今年 last_year=去年 next_year=明年 后年 前年",
    "morning=早上=早晨=上午 noon=afternoon=中午=下午 evening=night=tonight=晚上=今晚=夜里=夜晚",
    "spring_season=春天=春季 summer=夏天=夏季 autumn=秋天=秋季 winter=冬天=冬季",
    "hourly=每小时 daily=每天=每日 weekly=每周 monthly=每月 quarterly annually=yearly=annual=每年",
    // Time units.
    "milliseconds=millisecond=毫秒 microseconds=microsecond nanoseconds seconds=secs=秒=秒钟 minutes=minute=mins=分钟 hours=hour=hrs=小时 days=day=天 weeks=week=星期=礼拜 months=month=个月 years=year decades=decade century=centuries=世纪",
    // Lengths.
    "mm=millimeter=millimeters=毫米 cm=centimeter=centimeters=centimetres=厘米 meter=meters=metres=metre=米 km=kilometer=kilometers=kilometre=kilometres=公里=千米 mile=miles=英里 inch=inches=英寸 yard=yards=码 feet=ft=英尺",
    // Masses.
    "mg=milligram=milligrams=毫克 gram=grams=克 kg=kilogram=kilograms=kilo=kilos=公斤=千克 pound_mass=lbs=lb=磅 ounce=ounces=oz=盎司 ton=tons=tonne=tonnes=吨 斤",
    // Volumes.
    "ml=milliliter=milliliters=millilitre=毫升 liter=liters=litre=litres=升 gallon=gallons=加仑 pint=pints",
    // Temperatures.
    "celsius=摄氏度=摄氏 fahrenheit=华氏度=华氏 kelvin",
    // Data.
    "kb=kilobyte=kilobytes mb=megabyte=megabytes=兆 gb=gigabyte=gigabytes tb=terabyte=terabytes byte=bytes=字节 bit=bits=比特",
    // Currencies.
    "dollar=dollars=usd=bucks=美元=美金=美刀 euro=euros=eur=欧元 pound=pounds=gbp=英镑 yen=jpy=日元=日圆 yuan=rmb=cny=renminbi=人民币 rupee=rupees=inr=rs=卢比 hkd=港币=港元 \
won_currency=krw=韩元 bitcoin=btc=比特币 ethereum=eth=以太坊 cents=cent franc=francs=chf rubles=ruble=卢布 cad aud",
    // Colours.
    "red=红色 green=绿色 blue=蓝色 yellow=黄色 black=黑色 white=白色 purple=紫色 pink=粉色=粉红色 gray=grey=灰色 brown=棕色 orange_colour=橙色=橘色 gold=golden=金色 silver=银色",
    // Programming languages.
    "python java javascript=js typescript=ts golang rust ruby php perl scala kotlin swift haskell matlab fortran cobol erlang clojure lua bash=shell powershell c++ c# f# sql html css",
    // Databases and queues.
    "mysql postgresql=postgres mongodb=mongo redis sqlite cassandra elasticsearch dynamodb mariadb kafka rabbitmq memcached",
    // Operating systems.
    "windows linux macos=mac=osx ubuntu debian fedora android=安卓 ios=iphone=苹果手机 chromeos",
    // Clouds and their makers; companies.
    "aws=amazon=亚马逊 azure=microsoft=微软 gcp=google=谷歌 alibaba=aliyun=阿里巴巴=阿里云 tencent=腾讯 baidu=百度 oracle ibm facebook=meta=脸书 apple=苹果 netflix=网飞 twitter=推特 uber lyft airbnb \
tesla=特斯拉 bmw=宝马 audi=奥迪 mercedes=奔驰 toyota=丰田 honda=本田 ford=福特 大众 比亚迪=byd samsung=三星 huawei=华为 xiaomi=小米 oppo vivo nokia=诺基亚 sony=索尼 lenovo=联想 dell=戴尔 hp=惠普 \
walmart costco paypal stripe spotify instagram snapchat whatsapp telegram youtube tiktok=抖音 wechat=微信 weibo=微博 alipay=支付宝 taobao=淘宝 tmall=天猫 jd=京东 pinduoduo=拼多多 meituan=美团 qq qzone=qq空间 \
linkedin quora=知乎 reddit pinterest skype zoom slack uniqlo infosys wipro tcs accenture cognizant flipkart",
    // Models.
    "gpt-4 gpt-3 chatgpt claude gemini llama mistral qwen=通义千问 deepseek copilot",
    // Animals, the zodiac among them.
    "dog=dogs=puppy=狗=小狗 cat=cats=kitten=猫=小猫 horse=horses=马匹 cow=cows=牛 pig=pigs=猪 sheep=羊 goat=goats rabbit=rabbits=兔=兔子 snake=snakes=蛇 rat=rats=鼠=老鼠 mouse=mice tiger=tigers=虎=老虎 \
lion=lions=狮子 monkey=monkeys=猴=猴子 chicken=chickens=鸡 duck=ducks=鸭=鸭子 fish=fishes=鱼 bird=birds=鸟 elephant=elephants=大象 wolf=wolves=狼 bear=bears=熊 shark=sharks bee=bees=蜜蜂 wasp=wasps ant=ants=蚂蚁 spider=spiders=蜘蛛 \
turtle=turtles=乌龟 frog=frogs=青蛙 龙",
    // Signs of the zodiac.
    "aries=白羊座 taurus=金牛座 gemini_sign=双子座 cancer_sign=巨蟹座 leo=狮子座 virgo=处女座 libra=天秤座 scorpio=天蝎座 sagittarius=射手座 capricorn=摩羯座=魔羯座 aquarius=水瓶座 pisces=双鱼座",
    // Kin.
    "father=dad=daddy=爸爸=父亲 mother=mom=mum=mommy=妈妈=母亲 brother=哥哥=弟弟 sister=姐姐=妹妹 husband=老公=丈夫 wife=老婆=妻子 son=儿子 daughter=女儿 boyfriend=男朋友=男友 girlfriend=女朋友=女友 uncle aunt grandfather=grandpa=爷爷 grandmother=grandma=奶奶 cousin nephew niece",
    // School subjects.
    "mathematics=math=maths=数学 physics=物理 chemistry=化学 biology=生物 history=历史 geography=地理 economics=经济学 philosophy=哲学 psychology=心理学 sociology literature 语文",
    // Planets.
    "mercury_planet venus=金星 mars=火星 jupiter=木星 saturn=土星 uranus=天王星 neptune=海王星 pluto=冥王星 moon=月亮=月球 sun=太阳",
    // Parts of the body.
    "eye=eyes=眼睛 ear=ears=耳朵 nose=鼻子 mouth=嘴巴 tooth=teeth=牙齿 hair=头发 hand=hands=手 foot=脚 knee=knees=膝盖 stomach=belly=肚子 neck=脖子 shoulder=shoulders=肩膀 heart=心脏 liver=肝 kidney=kidneys=肾",
    // Drinks and meals.
    "breakfast=早餐=早饭 lunch=午餐=午饭 dinner=supper=晚餐=晚饭",
    "tea=茶 coffee=咖啡 beer=啤酒 wine=红酒=葡萄酒 milk=牛奶 juice=果汁 water=水",
    // Compass.
    "northeast southeast northwest southwest",
    // Gender of a person.
    "男生=男人=男孩=男性=男的=男士=男子 女生=女人=女孩=女性=女的=女士=女子",
];
